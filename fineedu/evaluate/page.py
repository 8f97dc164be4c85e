"""stub"""

from pathlib import Path
from fineedu.evaluate.evaluation import Evaluation
from fineedu.store import write_json


def write_evaluation(folder: Path, found: Evaluation) -> Path:
    write_json(folder / "evaluation.json", found.as_json())
    return folder / "evaluation.html"
