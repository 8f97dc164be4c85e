"""Small corpora with a known rise: plain words of the project's own making, some phrases planted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

FILLER = [
    "water",
    "stone",
    "river",
    "light",
    "school",
    "paper",
    "garden",
    "winter",
    "music",
    "number",
    "window",
    "market",
    "letter",
    "morning",
    "village",
    "answer",
    "bridge",
    "circle",
    "doctor",
    "engine",
    "farmer",
    "glass",
    "hammer",
    "island",
    "jacket",
    "kitchen",
    "ladder",
    "mirror",
    "needle",
    "orange",
    "pencil",
]


def documents(
    seed=0, *, years=range(2015, 2026), hosts=12, per_host=3, rise=1.0, host=None, phrase="delve", rate=0.004
):
    """Documents by year and host; from 2023 on `phrase` stands `rise` times as often (on one `host` only, if given)."""
    rng = np.random.default_rng(seed)
    made = []
    for year in years:
        for h in range(hosts):
            for n in range(per_host):
                words = list(rng.choice(FILLER, 300))
                after = year >= 2023 and (host is None or host == h)
                for _ in range(rng.poisson(300 * rate * (rise if after else 1.0))):
                    words.insert(int(rng.integers(len(words))), phrase)
                for _ in range(rng.poisson(2)):
                    words.insert(int(rng.integers(len(words))), "for example")
                made.append(
                    {
                        "id": f"{year}-{h}-{n}",
                        "url": f"https://www.host{h}.example.org/{year}/{n}",
                        "source": "even" if h % 2 == 0 else "odd",
                        "date": f"{year}-0{rng.integers(1, 10)}-15",
                        "text": " ".join(words) + ".",
                    }
                )
    return made


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe(folder: Path, data: Path, **extra) -> Path:
    body = {"name": "test", "input": {"path": data.name, "period": "year"}, "lexicons": ["fineweb-proxy", "control"]}
    body |= extra
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(body), encoding="utf-8")  # JSON is YAML
    return path
