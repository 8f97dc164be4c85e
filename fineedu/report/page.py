"""Stub replaced below."""
from pathlib import Path
from typing import Any
def write_report(path: Path, job: Any, schema: Any, owners: Any, manifest: Any) -> Path:
    path.write_text("x"); return path
