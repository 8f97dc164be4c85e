"""Self-contained pages opened in a real browser, with everything noted that must not happen."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_page(browser: Any, page: Path, width: int, scheme: str) -> tuple[Any, list[str], list[str]]:
    """Open a page without network.

    Returns:
        The tab; lists, which go on filling, of what went wrong (errors, dialogs, console) and of addresses asked for.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    tab = context.new_page()
    wrong: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(page.as_uri())
    return tab, wrong, requests
