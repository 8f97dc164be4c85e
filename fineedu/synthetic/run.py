"""An analysis from recipe to report."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fineedu import __version__
from fineedu.errors import FineeduError
from fineedu.phrases.lexicon import LexiconSet, combine, read_lexicon
from fineedu.store import hold, write_json
from fineedu.synthetic.analysis import Analysis, analyse
from fineedu.synthetic.counterfactual import require_statsmodels
from fineedu.synthetic.counting import CountJob, count
from fineedu.synthetic.page import write_report
from fineedu.synthetic.recipe import SyntheticRecipe, load_recipe
from fineedu.synthetic.source import Source, needed_columns, open_source


class Plan(NamedTuple):
    """A checked recipe with its input.

    Attributes:
        recipe: resolved.
        folder: of its file.
        source: the documents.
        lexicons: read and numbered.
    """

    recipe: SyntheticRecipe
    folder: Path
    source: Source
    lexicons: LexiconSet


class Result(NamedTuple):
    """What an analysis left.

    Attributes:
        found: the findings.
        report: the HTML file.
    """

    found: Analysis
    report: Path


def plan(recipe: str, *, path: str | None = None, overrides: list[str] | None = None) -> Plan:
    """Read a recipe and check everything that can be checked before the text is read.

    Args:
        recipe: a shipped name, or the path of a YAML file.
        path: documents instead of the recipe's.
        overrides: ``key.key=value`` strings.

    Raises:
        FineeduError: names what is wrong, and where.
    """
    settings = [*(overrides or []), *([f"input.path={path!r}"] if path is not None else [])]
    found, file = load_recipe(recipe, settings)
    require_statsmodels()
    folder = file.resolve().parent
    lexicons = combine([read_lexicon(name, folder) for name in found.lexicons])
    if found.headline is not None and found.headline not in {lexicon.name for lexicon in lexicons.lexicons}:
        raise FineeduError(f"headline: {found.headline} is none of the lexicons")
    if found.excess is not None:
        for name in (*found.excess.style, *found.excess.content):
            read_lexicon(name, folder)
    source = open_source(found.input, Path() if path is not None else folder)
    if found.mixture is not None:
        for corpus in filter(None, (found.mixture.machine, found.mixture.human)):
            open_source(found.input.model_copy(update={"path": corpus}), folder, dated=False)
    flag = {"detector.flag": found.detector.flag} if found.detector is not None else {}
    needed_columns(source, {f"by.{name}": sql for name, sql in found.by.items()} | flag)
    return Plan(found, folder, source, lexicons)


def execute(
    planned: Plan, output: Path, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Result:
    """Count, estimate, and write the report; counts that are there are not made again.

    Args:
        planned: from :func:`plan`.
        output: folder.
        workers: threads; default one a processor.
        progress: told parts counted and parts in all.

    Raises:
        FineeduError: a damaged input, too little data for what is asked, or a full disk.
    """
    recipe = planned.recipe
    with hold(output / ".lock", f"another run is writing to {output}: wait for it, or take another --output"):
        job = CountJob(
            planned.source,
            recipe.by,
            recipe.within,
            planned.lexicons,
            recipe.detector.flag if recipe.detector is not None else None,
            recipe.excess is not None,
            output,
        )
        counted = count(job, workers or os.cpu_count() or 1, progress)
        found = analyse(recipe, planned.lexicons, counted, planned.folder)
        facts: dict[str, Any] = {"recipe": f"{recipe.name} {recipe.hash}", "fineedu": __version__}
        facts |= {"left out: " + name.replace("_", " "): f"{n:,}" for name, n in found.left_out.items() if n}
        if recipe.mixture is not None:
            from fineedu.synthetic.references import estimate

            found.tables["mixture"], told = estimate(recipe, planned.source, planned.folder)
            facts |= {f"mixture: {name.replace('_', ' ')}": f"{n:,.0f}" for name, n in told.items()}
        report = write_report(output, found, facts)
        manifest = {"recipe": recipe.model_dump(mode="json"), "facts": facts, "inputs": list(planned.source.parts)}
        write_json(output / "manifest.json", manifest)
    return Result(found, report)
