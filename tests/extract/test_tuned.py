from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fineedu.extract.archive import Archive

SCRIPT = """
import json, sys
from pathlib import Path
from fineedu.extract.archive import Archive
from fineedu.extract.charset import decode_page
from fineedu.extract.html import extract_page
from fineedu.extract.tuned import tune_trafilatura
applied = tune_trafilatura() if sys.argv[1] == "tuned" else []
with Path(sys.argv[2]).open("rb") as stream:
    pages = [decode_page(r.body, r.charset)[0] for r in Archive(stream, 8 << 20) if r.kind == "html"][: int(sys.argv[3])]
print(json.dumps([applied, [extract_page(page, "trafilatura", mode).text for mode in ("fast", "standard") for page in pages]]))
"""


def texts(kind: str, path: Path, pages: int) -> tuple[list[str], list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, str(path), str(pages)], capture_output=True, text=True, check=True
    )
    return tuple(json.loads(done.stdout))  # type: ignore[return-value]


def test_output_is_trafilaturas(request: pytest.FixtureRequest) -> None:
    demo = Path(request.config.rootpath) / "pipelines" / "demo" / "demo.warc.gz"
    with demo.open("rb") as stream:
        assert len(list(Archive(stream, 8 << 20))) > 100
    applied, tuned = texts("tuned", demo, 200)
    assert {"element classes", "BODY_XPATH", "OVERALL_DISCARD_XPATH", "links", "cookie notices"} <= set(applied)
    assert tuned == texts("plain", demo, 200)[1]


@pytest.mark.slow
def test_output_is_trafilaturas_on_real_pages(real_data: Path) -> None:
    path = real_data / "warc" / "pages-02.warc.gz"
    assert texts("tuned", path, 250)[1] == texts("plain", path, 250)[1]
