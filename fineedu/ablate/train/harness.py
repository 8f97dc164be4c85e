"""lm-evaluation-harness on a trained model, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fineedu.errors import FineeduError


def need_harness() -> Any:
    """Import lm-evaluation-harness.

    Raises:
        FineeduError: it is missing.
    """
    try:
        import lm_eval
        import lm_eval.tasks
    except ImportError as error:
        raise FineeduError(
            "train.tasks needs lm-evaluation-harness: pip install lm-eval; its tasks' data must be there too. Leave "
            "train.tasks out to measure perplexity alone"
        ) from error
    return lm_eval


def save_model(model: Any, tokenizer: Path, end: str, folder: Path) -> None:
    """Save a model as transformers loads it."""
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    wrapped = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), eos_token=end, bos_token=end, pad_token=end)
    wrapped.save_pretrained(folder)


def measure_tasks(folder: Path, tasks: list[str], seed: int, device: str, own: Path | None = None) -> dict[str, float]:
    """Run tasks on a saved model.

    Args:
        folder: of the model.
        tasks: names.
        seed: of the harness.
        device: ``cpu`` or ``cuda``.
        own: folder of tasks besides those that the harness ships.

    Returns:
        ``task metric`` to its value; standard errors of the harness are left out: intervals here are over seeds.

    Raises:
        FineeduError: no such task, or its data is not to be had.
    """
    harness = need_harness()
    try:
        found = harness.simple_evaluate(
            model="hf",
            model_args=f"pretrained={folder}",
            tasks=tasks,
            device=device,
            task_manager=None if own is None else harness.tasks.TaskManager(include_path=str(own)),
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
            bootstrap_iters=0,
        )
    except Exception as error:  # the harness raises what its data sets raise
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise FineeduError(f"lm-evaluation-harness stopped at {', '.join(tasks)}: {told}") from error
    measured = {}
    for task, measures in sorted(found["results"].items()):
        for name, value in sorted(measures.items()):
            metric = name.partition(",")[0]
            if isinstance(value, int | float) and "stderr" not in name and metric not in ("alias", "sample_len"):
                measured[f"{task} {metric}"] = float(value)
    return measured
