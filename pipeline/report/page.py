"""The page: Jinja with everything escaped, and a policy that lets it load nothing and run nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.estimate import Estimate, show_setting
from pipeline.report.views import ReportContent
from pipeline.run_name import run_name

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

SHARES = {"accuracy", "precision", "recall", "f1", "macro_f1", "weighted_f1", "roc_auc", "pr_auc", "ece"}
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
        percent=percent,
        number=number,
        figure=figure,
        interval=interval,
        estimated_share=estimated_share,
        points=points,
        visible=visible,
        prose=prose,
        run_name=run_name,
        setting=show_setting,
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


def is_share(name: str) -> bool:
    """Return True if a metric, or what a rule of the gate is about, is a share: read as per cent."""
    return not SHARES.isdisjoint(name.split("."))


def figure(value: float | None, name: str) -> str:
    """Return the value of a metric: a share as per cent, anything else as a number."""
    return percent(value) if is_share(name) else number(value)


def interval(value: Sequence[float] | None, name: str = "accuracy") -> str:
    """Return the interval of a metric, a dash where there is none."""
    if value is None:
        return "–"
    if is_share(name):
        return f"{100 * value[0]:.1f} to {100 * value[1]:.1f} %"
    return f"{number(value[0])} to {number(value[1])}"


def points(value: float | None, name: str = "accuracy") -> str:
    """Return a difference between two values of a metric with its sign, a dash where there is none."""
    if value is None:
        return "–"
    return f"{100 * value:+.1f} points" if is_share(name) else f"{value:+.4g}"


def estimated_share(estimate: Estimate) -> str:
    """Return a share and its standard error."""
    return f"{100 * estimate.value:.1f} ± {100 * estimate.error:.1f} %"


def visible(text: str | float | None) -> str:
    """Return text without the characters that hide or turn round what stands beside them."""
    return "".join(character for character in str(text) if character not in _HIDDEN)


def prose(text: str | None) -> Markup:
    """Return text of a message as mark-up: escaped, and what stands between backticks as code."""
    from markupsafe import Markup, escape

    escaped = str(escape(visible(text or "")))
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escaped))
