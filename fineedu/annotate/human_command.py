"""``fineedu label``: a person labels documents in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fineedu.annotate.human.session import LabelRubric

EPILOG = (
    "Example: [dim]fineedu label edu --input sample.parquet --output labels/human.parquet --annotator ada[/]\n\n"
    "Keys: the score (0 to 5), [bold]a[/] abstain, [bold]u[/] undo, arrows back and forth. Ctrl-C ends; the same "
    "command goes on."
)


def label(
    rubric: Annotated[str, typer.Argument(help="A shipped rubric, or the path of one.")],
    source: Annotated[Path, typer.Option("--input", "-i", help="Parquet file with id and text, e.g. of sample.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Labels to write, .parquet.")] = Path(
        "labels/human.parquet"
    ),
    annotator: Annotated[
        str | None, typer.Option(help="Your name in the labels. [default: your user name]", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
) -> None:
    """Label documents by hand, on a page in your browser. Every answer is saved at once."""
    from fineedu.annotate.human.session import PlainRubric
    from fineedu.annotate.rubric import load_rubric

    loaded = load_rubric(rubric)
    asked = PlainRubric(
        name=loaded.name,
        hash=loaded.hash,
        text=loaded.instructions,
        scale=(loaded.scale.min, loaded.scale.max) if loaded.scale else None,
        topics=tuple((topic.slug, topic.title, topic.about) for topic in loaded.topics) or None,
    )
    label_with(asked, source, output, annotator, port, browser)


def label_with(
    rubric: LabelRubric, source: Path, output: Path, annotator: str | None = None, port: int = 0, browser: bool = False
) -> None:
    """Serve the label page for a rubric until the person finishes; export the labels however it ends.

    Args:
        rubric: what is asked.
        source: documents.
        output: labels.
        annotator: None takes the user's name.
        port: 0 takes a free one.
        browser: open the page.
    """
    import getpass
    import signal
    import webbrowser

    from rich.console import Console

    from fineedu.annotate.human.server import LabelServer
    from fineedu.annotate.human.session import Session, load_documents

    out = Console()
    session = Session(rubric, load_documents(source), output, annotator or getpass.getuser())
    with session:
        server = LabelServer(session, port)
        stops = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(stop, lambda *_: server.finished.set()) for stop in stops]
        server.start()
        done = sum(session.answered())
        out.print(f"{len(session.documents):,} documents, {done:,} answered by {session.annotator}", markup=False)
        out.print(f"open {server.url}", highlight=False, markup=False, soft_wrap=True)
        out.print("Ctrl-C ends; the same command goes on", highlight=False)
        if browser:
            webbrowser.open(server.url)
        try:
            server.finished.wait()
        finally:
            server.stop()
            written = session.export()
            for stop, handler in zip(stops, before, strict=True):
                signal.signal(stop, handler)
    out.print(f"{written:,} labels in {output}", highlight=False, markup=False, soft_wrap=True)
