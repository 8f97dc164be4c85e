"""YAML files of settings: read, changed by ``key=value``, and errors that name their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fineedu.errors import FineeduError


def override(raw: dict[str, Any], setting: str) -> None:
    """Apply one ``key.key=value``; the value is read as YAML."""
    key, sign, text = setting.partition("=")
    if not sign or not all(key.strip().split(".")):
        raise FineeduError(f"--set {setting}: expected key=value, e.g. --set extract.backend=resiliparse")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FineeduError(f"--set {setting}: the value is not valid YAML") from error
    try:
        set_key(raw, key.strip(), value)
    except FineeduError as error:
        raise FineeduError(f"--set {setting}: {error}") from error


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key of a recipe that is not checked yet; an empty value takes a rule out.

    Raises:
        FineeduError: a part of the key holds no settings.
    """
    parts = key.split(".")
    # Rule names may hold dots: select.rules.<everything else> is one key.
    if parts[:2] == ["select", "rules"] and len(parts) > 2:
        parts = ["select", "rules", ".".join(parts[2:])]
    node = raw
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise FineeduError(f"{part!r} holds no settings")
        node = child
    if value is None and parts[:2] == ["select", "rules"]:
        node.pop(parts[-1], None)
    else:
        node[parts[-1]] = value


def _line_of(root: yaml.Node | None, location: tuple[int | str, ...]) -> int | None:
    """Return the line, counted from 1, of the deepest part of a location that the file holds."""
    node, line = root, None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def located(path: Path, node: yaml.Node | None, location: tuple[int | str, ...], message: str) -> FineeduError:
    """Return an error that names a file, the line of a key in it, and the key."""
    line = _line_of(node, location)
    key = ".".join(str(part) for part in location)
    return FineeduError(f"{path}{f':{line}' if line else ''}: {key}: {message}" if key else f"{path}: {message}")


def read_settings(path: Path, kind: str) -> tuple[dict[str, Any], yaml.Node | None]:
    """Read a YAML file of settings; its name is the file's where it has none.

    Args:
        path: the file.
        kind: what it is, for messages.

    Returns:
        The settings, and the tree that tells their lines.

    Raises:
        FineeduError: it cannot be read, is not YAML, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise FineeduError(f"cannot read the {kind} {path}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise FineeduError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    except RecursionError as error:
        raise FineeduError(f"{path}: not valid YAML: it is nested too deep") from error
    if not isinstance(raw, dict):
        article = "an" if kind[0] in "aeiou" else "a"
        raise FineeduError(f"{path}: {article} {kind} is a mapping of settings, this is {type(raw).__name__}")
    raw.setdefault("name", path.stem[:60])
    return raw, node
