"""The page of an ablation: one HTML file that needs nothing beside it, with sliders over binned counts."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from fineedu.ablate.evaluate import Ablation, Shift
from fineedu.ablate.labelled import Advice
from fineedu.ablate.tables import shown_documents
from fineedu.evaluate.charts import forest_chart
from fineedu.evaluate.resample import Estimate
from fineedu.evaluate.wording import NONE, figure, interval
from fineedu.pool import Pool
from fineedu.report.charts import draw
from fineedu.report.display import clean, count, megabytes, share
from fineedu.report.html import write_page

if TYPE_CHECKING:
    from fineedu.ablate.train.run import Trained

#: What a page shows of many: rows of cells, cells side by side, values of a property, pairs with samples.
_CELLS, _WIDE, _VALUES, _PAIRS = 300, 12, 14, 24


def write_ablation(folder: Path, found: Ablation, pool: Pool, trained: Trained | None = None) -> Path:
    """Write ``ablation.html``; the same ablation gives the same bytes.

    Args:
        folder: made where it is missing.
        found: the ablation.
        pool: where documents are read from.
        trained: results of the models, where there are any.

    Returns:
        The path of the page.

    Raises:
        FineeduError: a file cannot be written, or a document not read.
    """
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    order = found.shown(_CELLS)
    shown: dict[str, Any] = {
        "found": found,
        "binned": found.binned,
        "data": Markup("" if found.binned is None else _embedded(found, pool)),
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
        "tiles": _tiles(found),
        "notes": found.notes,
        "rows": [_row(found, n) for n in order],
        "more_cells": len(found.cells) - len(order),
        "has_bytes": found.columns["bytes"] is not None,
        "rivals": lambda advice: _rivals(found, advice),
        "copies_words": _copies_words(found),
        "front_picture": _front(found),
        "heat": _heat(found),
        "shifts": [_shift(found, shift) for shift in found.shifts],
        "samples": _samples(found, pool),
        "trained": trained,
        "trained_rows": [] if trained is None else _trained_rows(trained),
        "trained_pictures": [] if trained is None else _trained_pictures(trained),
    }
    return write_page(folder / "ablation.html", Path(__file__).with_name("template.html.j2"), shown)


def _tiles(found: Ablation) -> list[tuple[str, str]]:
    about = " (estimated)" if found.estimated_tokens else ""
    tiles = [
        (count(len(found.cells)), "cells, evaluated together"),
        (count(int(found.pool_totals[0])), "documents in the pool"),
        (count(int(found.pool_totals[1])), f"tokens in the pool{about}"),
    ]
    if found.scores is not None:
        tiles.append((count(found.scores.n), f"labelled documents; {found.truth.words if found.truth else ''}"))
    return tiles


def _estimate(found: Estimate) -> tuple[str, str]:
    return figure(found.value), interval(found)


def _row(found: Ablation, n: int) -> dict[str, Any]:
    documents, tokens = int(found.shared[n, n]), int(found.totals[n, 1])
    values = [(count(documents), ""), (count(tokens), ""), (share(tokens, found.pool_totals[1]), "")]
    if found.columns["bytes"] is not None:
        values.append((megabytes(int(found.totals[n, 2])), ""))
    copies = np.nan if found.copies is None else found.copies[0][n]
    values.append((NONE if np.isnan(copies) else share(copies, 1), ""))
    values.append((_number(found.proxy_rate[n], 1), ""))
    if found.scores is not None:
        scores = found.scores
        values += [_estimate(each[n]) for each in (scores.precision, scores.recall, scores.f1)]
        values.append(("" if found.front_share is None else f"{found.front_share[n]:.0%}", ""))
    front = found.front is not None and bool(found.front[n])
    pick = any(advice.cell == n for advice in found.advice)
    return {"name": clean(found.cells[n].name, 120), "parts": values, "front": front, "pick": pick}


def _number(value: float, digits: int) -> str:
    return NONE if np.isnan(value) else f"{value:,.{digits}f}"


def _rivals(found: Ablation, advice: Advice) -> str:
    order = [int(n) for n in np.argsort(-advice.wins, kind="stable") if n != advice.cell and advice.wins[n] >= 0.05]
    told = ", ".join(f"{clean(found.cells[n].name, 60)} in {advice.wins[n]:.0%}" for n in order[:3])
    return f"; else {told}" if told else ""


def _copies_words(found: Ablation) -> str:
    if found.copies is None:
        return " (no key here)"
    every = found.copies[2]
    rate = "" if every == 1 else f", estimated from one key in {every}"
    return f" ({found.columns['copies']}{rate})"


def _front(found: Ablation) -> Markup | None:
    """Draw precision against tokens, of at most 300 cells."""
    if found.scores is None:
        return None
    rows = []
    for n in found.shown(_CELLS):
        precision = found.scores.precision[n]
        if precision.value is None or found.totals[n, 1] <= 0:
            continue
        size = count(int(found.totals[n, 1]))
        told = f"{clean(found.cells[n].name, 60)}: {size} tokens, precision {figure(precision.value)}"
        ends = {"low": precision.low, "high": precision.high}
        front = "yes" if found.front is not None and found.front[n] else "no"
        rows.append({"x": found.totals[n, 1], "y": precision.value, "told": told, "front": front, **ends})
    if not rows:
        return None
    sizes = [row["x"] for row in rows]
    scale = {"type": "log", "domain": [min(sizes) / 1.3, max(sizes) * 1.3], "nice": False}
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": scale,
        "axis": {"title": "tokens kept", "format": "~s", "tickCount": 5, "grid": False},
    }
    y = {
        "field": "y",
        "type": "quantitative",
        "scale": {"domain": [0, 1]},
        "axis": {"title": "precision", "tickCount": 6},
    }
    colour = {"condition": {"test": {"field": "front", "equal": "yes"}, "value": "var(--ink)"}, "value": "var(--kept)"}
    described = {"x": x, "description": {"field": "told"}}
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": [row for row in rows if row["low"] is not None]},
            "mark": {"type": "rule", "strokeWidth": 1.5, "color": "var(--line)"},
            "encoding": described | {"y": y | {"field": "low"}, "y2": {"field": "high"}},
        },
        {
            "data": {"values": rows},
            "mark": {"type": "point", "filled": True, "size": 70},
            "encoding": described | {"y": y, "fill": colour},
        },
    ]
    return draw(layers, "Precision against tokens kept, a dot a cell.", 460, 280)


def _heat(found: Ablation) -> list[tuple[str, list[tuple[str, int]]]]:
    n = min(len(found.cells), 2 * _WIDE)

    def cell(value: float) -> tuple[str, int]:
        return (NONE, 0) if np.isnan(value) else (f"{value:.2f}", round(70 * float(value)))

    return [(clean(found.cells[row].name, 60), [cell(value) for value in found.jaccard[row, :n]]) for row in range(n)]


def _shift(found: Ablation, shift: Shift) -> dict[str, Any]:
    cells = [n for n in found.shown(_CELLS) if found.shared[n, n]][:_WIDE]

    def shares(tokens: Any) -> Any:
        total = tokens.sum(axis=-1, keepdims=True)
        return np.divide(tokens, total, out=np.zeros_like(tokens), where=total > 0)

    pool, here = shares(shift.pool_tokens), shares(shift.tokens[cells])
    moved = np.abs(here - pool).max(axis=0, initial=0)
    order = [int(at) for at in np.argsort(-(moved + 1e-3 * pool), kind="stable") if shift.pool_documents[at]][:_VALUES]
    if shift.property == "length":
        order.sort()
    rows = [(clean(shift.values[at], 40), [share(pool[at], 1), *(share(part[at], 1) for part in here)]) for at in order]
    more = int((shift.pool_documents > 0).sum()) - len(order)
    words = f"{len(order)} values that move most" + (f", {more:,} more in shifts.csv" if more > 0 else "")
    if shift.property == "host":
        words += "; all but the 256 heaviest hosts share 1,024 buckets, so divergences are lower bounds"
    return {
        "property": shift.property,
        "column": shift.column,
        "words": words if shift.property != "length" else "of the text in bytes, each bin twice as long",
        "names": [clean(found.cells[n].name, 40) for n in cells],
        "from_pool": [_number(shift.from_pool[n], 3) for n in cells],
        "from_first": [_number(shift.from_first[n], 3) for n in cells],
        "rows": rows,
    }


def _samples(found: Ablation, pool: Pool) -> list[tuple[str, list[dict[str, Any]]]]:
    shown = [(pair, rows) for pair, rows in zip(found.pairs, found.samples, strict=True) if rows][:_PAIRS]
    documents = shown_documents(pool, sorted({row for _, rows in shown for row in rows}))
    by_row = {row["row"]: row for row in documents.iter_rows(named=True)}
    names = [clean(cell.name, 80) for cell in found.cells]
    return [(f"kept by {names[a]}, dropped by {names[b]}", [by_row[row] for row in rows]) for (a, b), rows in shown]


def _embedded(found: Ablation, pool: Pool) -> str:
    """Return the sliders' data as JSON that no markup in it can end."""
    binned = found.binned
    assert binned is not None
    documents = shown_documents(pool, [row for row, _ in binned.samples])
    codes = dict(binned.samples)
    labelled: list[list[Any]] = []
    if found.scores is not None and found.truth is not None:
        rows = found.truth.table.unique("id", keep="first").sort("id")
        known = set(found.labelled_ids)
        for name, positive, weight, _ in rows.select("id", "positive", "weight", "stratum").iter_rows():
            if name in known:
                labelled.append([binned.labelled.get(name), bool(positive), weight])
    told = {
        "controls": [
            {"column": c.column, "op": c.op, "positions": c.positions, "start": c.start} for c in binned.controls
        ],
        "toggles": binned.toggles,
        "shape": binned.documents.shape,
        "documents": binned.documents.ravel().tolist(),
        "tokens": binned.tokens.ravel().astype(np.int64).tolist(),
        "pool_tokens": int(found.pool_totals[1]),
        "weighted": bool(found.truth and found.truth.weighted),
        "labelled": labelled,
        "samples": [
            {
                "codes": codes[row["row"]],
                "id": clean(row["id"], 80),
                "title": clean(row["title"], 100),
                "url": clean(row["url"], 160),
                "text": clean(row["text"], 320),
            }
            for row in documents.iter_rows(named=True)
        ],
    }
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c").replace("&", "\\u0026")


def _trained_rows(trained: Trained) -> list[dict[str, Any]]:
    return [
        {
            "name": clean(cell.name, 120),
            "parts": [
                (count(cell.corpus_tokens), ""),
                (f"{cell.epochs:.2f}", ""),
                *(_estimate(cell.measures[name]) for name in trained.measures),
            ],
        }
        for cell in trained.cells
    ]


def _trained_pictures(trained: Trained) -> list[tuple[str, Markup]]:
    pictures = []
    for name in trained.measures[:4]:
        rows = [(clean(cell.name, 28), cell.measures[name]) for cell in trained.cells[:30]]
        if len({label for label, _ in rows}) == len(rows) and any(value.value is not None for _, value in rows):
            pictures.append((name, forest_chart(rows, name, f"{name} by cell.")))
    return pictures
