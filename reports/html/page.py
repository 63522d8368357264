"""Render the page: Jinja2 escapes every value, and embedded JSON cannot end its element."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.html.sprites import Sprites
from reports.sections import Section
from reports.table1.sheet import Sheet

_FOLDER = Path(__file__).parent
_SCRIPTS = ("table.js", "plots.js", "viewer.js", "start.js")


@dataclass(frozen=True)
class Figure:
    """A picture of the page: its title, its text alternative, and a data URI."""

    title: str
    alternative: str
    uri: str


@dataclass(frozen=True)
class Part:
    """One data set of a run as the page shows it."""

    sheet: Sheet
    rows: Sequence[dict[str, str]]
    plots: Sequence[dict[str, Any]]
    sprites: Sequence[Sprites]
    figures: Sequence[Figure]
    sections: Sequence[Section]
    failures: Sequence[dict[str, str]] = field(default_factory=list)


def page(title: str, parts: Sequence[Part], environment: Sequence[tuple[str, str]], config: str) -> str:
    """Return the HTML report.

    Args:
        title: The name of the run.
        parts: A part for each data set.
        environment: Names and values of the environment.
        config: The run's config.yaml.
    """
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    # A data set of one patient lacks some chapters: each links to the first data set that has it.
    chapters: dict[str, tuple[str, str]] = {}
    for number, part in enumerate(parts):
        for section in part.sections:
            chapters.setdefault(section.stem, (f"{section.stem}-{number}", section.title))
    return str(_environment().get_template("page.html").render(
        title=title, chapters=chapters.values(), parts=parts, environment=environment, config=config, style=style,
        script=script, style_hash=_hash(style), script_hash=_hash(script), data=_data,
    ))  # fmt: skip


def table_page(found: Sequence[Sheet]) -> str:
    """Return Table 1 of each data set as an HTML page."""
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    template = _environment().get_template("table1.html")
    return str(template.render(sheets=found, style=style))


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"json": embedded, "code": with_code}
    return made


def _data(part: Part) -> dict[str, Any]:
    return {"rows": part.rows, "plots": part.plots, "cases": [s.case for s in part.sprites]}


def embedded(value: Any) -> Any:
    """Return a value as JSON for a script element; no character of it can end the element or open a comment."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def with_code(text: object) -> Any:
    """Return text as HTML: every character is escaped, and what stands between backquotes is code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`(?! )([^`]+)(?<! )`", r"<code>\1</code>", str(escape(text))))


def _hash(text: str) -> str:
    """The hash of the page's script or style. The content policy allows no other script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
