"""The card of a store that is kept as a dataset on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fineedu.store import atomic_open


def write_card(path: Path, run_id: str, manifest: dict[str, Any]) -> None:
    """Write the ``README.md`` by which ``datasets.load_dataset`` finds the corpus.

    Args:
        path: of the file, at the root of the store.
        run_id: the run whose corpus it is.
        manifest: of the run.
    """
    parquet = manifest["recipe"]["write"]["format"] == "parquet"
    pattern = f"corpus/{run_id}/**/*.{'parquet' if parquet else 'jsonl.zst'}"
    head = {"configs": [{"config_name": run_id, "default": True, "data_files": [{"split": "train", "path": pattern}]}]}
    counts = manifest["counts"]
    text = (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n# {manifest['recipe']['name']}\n\n"
        f"{manifest['recipe']['description']}\n\n"
        f"{counts['kept']:,} of {counts['documents']:,} documents, made by fineedu {manifest['fineedu']} "
        f"with the recipe of hash {manifest['recipe_hash']}; `runs/{run_id}/manifest.json` tells everything else.\n"
    )
    with atomic_open(path) as stream:
        stream.write(text.encode())
