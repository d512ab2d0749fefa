"""`ATTRIBUTION.md`: who made the pictures of a dataset version, and under which licence."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from pipeline.artifacts.dataset import DatasetInfo, ManifestRow, source_of

UNKNOWN = "not stated"


def escape_markdown(text: str) -> str:
    """Return foreign text so that Markdown shows it as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+\-!|~&])", r"\\\1", " ".join(text.split()))


def web_address(text: str | None) -> str | None:
    """Return an address that may become a link: http or https and nothing that ends a link early."""
    if text is None or not re.fullmatch(r"https?://[^\s<>()\"'\\\[\]]+", text):
        return None
    return text


def render_attribution(info: DatasetInfo, rows: Sequence[ManifestRow]) -> str:
    """Return the attribution of every kept picture, by licence.

    Pictures of which nothing is known are counted by source instead of listed.
    """
    by_licence: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if row.split is not None:
            by_licence[row.license or UNKNOWN].append(row)
    lines = [f"# Attribution of {escape_markdown(info.dataset)}, version {info.version}", ""]
    for licence, found in sorted(by_licence.items()):
        lines += [f"## {escape_markdown(licence)} ({len(found)} pictures)", ""]
        known = [row for row in found if row.creator or row.page_url or row.license or row.attribution]
        lines += [_attribute(row) for row in known]
        lines += _count_unknown([row for row in found if row not in known])
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _attribute(row: ManifestRow) -> str:
    page = web_address(row.page_url) or web_address(row.source_url)
    place = f"<{page}>" if page else escape_markdown(row.page_url or row.source_url)
    licence = escape_markdown(row.license or UNKNOWN)
    url = web_address(row.license_url)
    stated = f"[{licence}]({url})" if url else licence
    creator = escape_markdown(row.creator) if row.creator else "an unnamed creator"
    if row.attribution:
        return f"* {place}: {escape_markdown(row.attribution)}; {stated}; picture `{(row.id or '')[:16]}`"
    return f"* {place}, by {creator}, {stated}; picture `{(row.id or '')[:16]}`"


def _count_unknown(rows: Sequence[ManifestRow]) -> list[str]:
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[source_of(row)] += 1
    return [
        f"* {count} pictures from {escape_markdown(source)}; neither creator nor licence is known"
        for source, count in sorted(counts.items())
    ]
