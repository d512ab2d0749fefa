"""The page: Jinja with everything escaped, and a policy that lets it load nothing and run nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.estimate import show_setting
from pipeline.report.views import ReportContent

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
STYLESHEET = _TEMPLATES / "report.css"
_HIDDEN = "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def render_page(content: ReportContent) -> str:
    """Return the report as one HTML document.

    Nothing that a picture, a file name or a label says can become mark-up: all values are escaped, links are
    http(s) alone, and the content security policy allows no script, no request and no form.
    """
    from markupsafe import Markup

    drawings = {name: Markup(svg) for name, svg in content.charts.items()}
    style = Markup(STYLESHEET.read_text(encoding="utf-8"))
    sections = {field.name: getattr(content, field.name) for field in fields(content)}
    template = make_environment().get_template("report.html")
    return template.render({**sections, "charts": drawings, "style": style}) + "\n"


def make_environment() -> Environment:
    """Return what renders the templates: everything is escaped, and a value that is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, number=number, interval=interval, visible=visible, setting=show_setting
    )
    return environment


def percent(value: float | None) -> str:
    """Return a share as per cent, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: float | str | None) -> str:
    """Return a number with at most four digits of interest, a dash where there is none."""
    if isinstance(value, int) or not isinstance(value, float):
        return "–" if value is None else str(value)
    return f"{value:.4g}"


def interval(value: Sequence[float] | None) -> str:
    """Return an interval, a dash where there is none."""
    return "–" if value is None else f"{value[0]:.3f} to {value[1]:.3f}"


def visible(text: str | float | None) -> str:
    """Return text without the characters that hide or turn round what stands beside them."""
    return "".join(character for character in str(text) if character not in _HIDDEN)
