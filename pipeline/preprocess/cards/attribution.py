"""`ATTRIBUTION.md`: who made the pictures of a dataset version, and under which licence."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from pipeline.artifacts.dataset import DatasetInfo
from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.provenance import Provenance

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

    Pictures without any provenance are counted by source instead of listed.
    """
    by_licence: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if row.split is not None:
            by_licence[row.provenance.license or UNKNOWN].append(row)
    lines = [f"# Attribution of {escape_markdown(info.dataset)}, version {info.version}", ""]
    for licence, members in sorted(by_licence.items()):
        lines += [f"## {escape_markdown(licence)} ({len(members)} pictures)", ""]
        lines += [_attribute(row) for row in members if _is_attributable(row.provenance)]
        lines += _count_unknown([row for row in members if not _is_attributable(row.provenance)])
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _is_attributable(origin: Provenance) -> bool:
    return bool(origin.creator or origin.page_url or origin.license or origin.attribution)


def _attribute(row: ManifestRow) -> str:
    origin, id = row.provenance, (row.id or "")[:16]
    page = web_address(origin.page_url) or web_address(origin.source_url)
    place = f"<{page}>" if page else escape_markdown(origin.page_url or origin.source_url)
    licence = escape_markdown(origin.license or UNKNOWN)
    url = web_address(origin.license_url)
    stated = f"[{licence}]({url})" if url else licence
    creator = escape_markdown(origin.creator) if origin.creator else "an unnamed creator"
    if origin.attribution:
        return f"* {place}: {escape_markdown(origin.attribution)}; {stated}; picture `{id}`"
    return f"* {place}, by {creator}, {stated}; picture `{id}`"


def _count_unknown(rows: Sequence[ManifestRow]) -> list[str]:
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row.provenance.origin] += 1
    return [
        f"* {count} pictures from {escape_markdown(source)}; neither creator nor licence is known"
        for source, count in sorted(counts.items())
    ]
