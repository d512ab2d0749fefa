"""What the files are that gave no picture, and how to convert them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import PurePosixPath

from pipeline.artifacts.manifest import ManifestRow
from pipeline.pixels.conversion import CONVERTED, READERS, REMEDIES, name_content
from pipeline.pixels.spec import ALL_BITS, FORMATS
from pipeline.preprocess.clean_state import CleanState

MAX_LOOKS = 20
REASONS = ("not_an_image", "unsupported_format", "unsupported_mode")
EXAMPLES = 3
# Never meant as pictures, wherever they lie.
TEXTS = (".txt", ".md", ".json", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html", ".db", ".ini", ".log")
DEEP_COLOURS = "PNG with colours of 16 bits"
MANY_LEVELS = "with fractions, negative or raw levels"


def describe_formats(state: CleanState, labels: Collection[str] | None = None) -> str:
    """Return which files of some classes, or of all, gave no picture, and how to convert them; else empty."""
    rows = [row for row in state.rows if row.blob and row.reason in REASONS]
    rows = [row for row in rows if labels is None or row.label in labels]
    rows = [row for row in rows if not row.source_url.lower().endswith(TEXTS)]
    names = Counter(_name(state, row) for row in rows[:MAX_LOOKS])
    if not names:
        return ""
    counts = ", ".join(f"{count} {name}" for name, count in names.most_common())
    more = f" among the first {MAX_LOOKS}" if len(rows) > MAX_LOOKS else ""
    commands = [f"for {name}: `{remedy}`" for name in names if (remedy := _find_remedy(name, state.bits))]
    remedy = "; ".join(commands) or "convert them: `mogrify -format png FILES` (ImageMagick)"
    return f"Found: {counts}{more}. Taken: {', '.join((*FORMATS, *CONVERTED))}; {remedy}"


def describe_kept_out(rows: Collection[ManifestRow]) -> str:
    """Return how many pictures are kept out for each reason, with examples."""
    reasons = Counter(str(row.reason) for row in rows if not row.is_kept)
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    shown = ", ".join([row.source_url for row in rows if not row.is_kept][:EXAMPLES])
    return f"{counts or 'none'}{f', such as {shown}' if shown else ''}"


def _name(state: CleanState, row: ManifestRow) -> str:
    data = state.workspace.storage.read_bytes(state.workspace.blob(row.blob))
    name = name_content(data)
    if name is None:
        suffix = PurePosixPath(row.source_url).suffix[:10]
        return f"{suffix} files" if row.reason == "not_an_image" and suffix else "another format"
    if name == "PNG" and data[24:25] == b"\x10":
        return DEEP_COLOURS
    return f"{name} {MANY_LEVELS}" if name in READERS and row.reason == "unsupported_format" else name


def _find_remedy(name: str, bits: int) -> str:
    if name == DEEP_COLOURS and bits < ALL_BITS:
        return f"mogrify -evaluate multiply {2 ** (ALL_BITS - bits)} -depth 8 FILES"
    if name.endswith(MANY_LEVELS):
        return "mogrify -normalize -depth 8 -format png FILES"
    return REMEDIES.get(name, "")
