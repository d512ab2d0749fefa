"""Renders pages: Jinja with everything escaped, and filters for times and numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from graft.ui import PREFIX
from pipeline.report.page import STYLESHEET, figure, number, percent, points, prose, visible
from pipeline.run_name import run_name

UI = Path(__file__).parent
STATIC = {
    "base.css": (STYLESHEET, "text/css"),
    "pages.css": (UI / "static" / "pages.css", "text/css"),
    "pages.js": (UI / "static" / "pages.js", "text/javascript"),
    "upload.js": (UI / "static" / "upload.js", "text/javascript"),
    "label.js": (UI / "static" / "label.js", "text/javascript"),
}
JSON = "application/json"  # what a script on one of our pages accepts
UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def render(
    request: Request, template: str, values: Mapping[str, Any], *, status_code: int = 200
) -> HTMLResponse:
    """Return a page."""
    root = str(request.scope.get("root_path", "")).rstrip("/")
    common = {"root": root, "airflow": root.removesuffix(PREFIX), "assets": static_versions()}
    html = environment().get_template(template).render({**common, **values})
    return HTMLResponse(html, status_code=status_code)


@cache
def environment() -> Environment:
    """Return the templates; every value is escaped."""
    made = Environment(
        loader=FileSystemLoader(UI / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        percent=percent,
        number=number,
        figure=figure,
        points=points,
        visible=visible,
        prose=prose,
        ago=ago,
        moment=moment,
        duration=duration,
        path=path,
        run_name=run_name,
        query=urlencode,
    )
    return made


@cache
def static_versions() -> dict[str, str]:
    """Return a digest of each static file: its address changes with its content."""
    return {name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for name, (file, _) in STATIC.items()}


def as_time(value: datetime | str | None) -> datetime | None:
    """Return a time from what a database or a JSON object has, None where there is none."""
    if not value:
        return None
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def moment(value: datetime | str | None) -> str:
    """Return a time for people, in UTC."""
    time = as_time(value)
    return "–" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def ago(value: datetime | str | None) -> str:
    """Return how long ago, or in how long, something is."""
    time = as_time(value)
    if time is None:
        return "–"
    seconds = (datetime.now(UTC) - time).total_seconds()
    for unit, size in UNITS:
        if abs(seconds) >= size:
            count = int(abs(seconds) // size)
            return f"{count} {unit} ago" if seconds > 0 else f"in {count} {unit}"
    return "just now" if seconds > -60 else "at once"


def duration(seconds: float) -> str:
    """Return a length of time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def path(text: str) -> str:
    """Return text as one part of an address."""
    return quote(text, safe="")
