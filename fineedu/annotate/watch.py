"""Live figures of an annotation: documents, tokens a second, cost, states."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fineedu.annotate.run import AnnotateJob, read_tally
from fineedu.progress import LINE_SECONDS, LIVE_SECONDS, Style, watching


def told(job: AnnotateJob, documents: int, seconds: float) -> str:
    """Return one line on how far an annotation is."""
    tally, _ = read_tally(job)
    tokens = tally.prompt_tokens + tally.completion_tokens
    states = ", ".join(f"{state} {count:,}" for state, count in sorted(tally.states.items())) or "no votes yet"
    of = f" of {documents:,}" if documents else ""
    cost = f"  ${tally.cost:,.4f}" if job.price is not None else ""
    return (
        f"{job.annotator.name}  {tally.documents:,}{of} documents  asked {tally.asked:,}  "
        f"cached {tally.cached:,}  {tokens / max(seconds, 1e-9):,.0f} tokens/s{cost}  {states}"
    )


@contextmanager
def show_annotation(job: AnnotateJob, documents: int, style: Style, console: Console) -> Iterator[None]:
    """Show an annotation's progress until the block ends.

    Args:
        job: the annotation.
        documents: how many there are; 0 where that is not known.
        style: ``rich`` for one live line, ``plain`` or ``json`` for lines on stderr; ``auto`` is live on a terminal.
        console: where the live line goes.
    """
    if style == "auto":
        style = "rich" if console.is_terminal else "plain"
    if style != "rich":

        def line(seconds: float) -> None:
            shown = json.dumps(read_tally(job)[0].as_json()) if style == "json" else told(job, documents, seconds)
            print(shown, file=sys.stderr, flush=True)

        with watching(LINE_SECONDS, line):
            yield
        return
    with (
        Live(console=console, refresh_per_second=4) as live,
        watching(LIVE_SECONDS, lambda seconds: live.update(Text(told(job, documents, seconds)))),
    ):
        yield
