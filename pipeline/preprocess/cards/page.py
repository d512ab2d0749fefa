"""The dataset card for people: one HTML file with a contact sheet of each class.

It shows re-encoded thumbnails only: no original byte, no metadata, no script. What came from the network is
escaped, and the page's own policy lets nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image

from pipeline.artifacts.dataset import DatasetInfo
from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.workspace import Workspace
from pipeline.pixels.host import decode_picture
from pipeline.pixels.spec import ALL_BITS
from pipeline.preprocess.cards.attribution import UNKNOWN, web_address
from pipeline.preprocess.reasons import REASONS

TEMPLATES = Path(__file__).parent / "templates"
PICTURES_A_CLASS = 24
GROUPS = 12
PICTURES_A_GROUP = 4
THUMBNAIL_SIDE = 112  # pixels
THUMBNAIL_QUALITY = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A picture as the page shows it.

    Args:
        image: A `data:` address of a small JPEG.
        title: Address, creator, licence and size.
        link: The page that shows it, if that is on the web.
        split: `train` or `test`.
    """

    image: str
    title: str
    link: str | None
    split: str


def render_page(workspace: Workspace, info: DatasetInfo, rows: Sequence[ManifestRow]) -> str:
    """Return the card of a dataset version as a self-contained HTML page."""
    storage, kept = workspace.storage, [row for row in rows if row.split is not None]

    def show(chosen: Sequence[ManifestRow]) -> list[Thumbnail]:
        files = (storage.read_bytes(workspace.blob(row.blob)) for row in chosen)
        return [make_thumbnail(row, data, bits=info.bits) for row, data in zip(chosen, files, strict=True)]

    by_label: dict[str, list[ManifestRow]] = {label: [] for label in info.classes}
    groups: dict[str | None, list[ManifestRow]] = defaultdict(list)
    for row in kept:
        by_label[row.label].append(row)
        groups[row.group].append(row)
    together = [members for members in groups.values() if len(members) > 1]
    style = (TEMPLATES / "dataset.css").read_text(encoding="utf-8")
    return _template().render(
        info=info,
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        reasons=[(reason, count, REASONS.get(reason, "")) for reason, count in info.rejected.items()],
        licences=Counter(row.provenance.license or UNKNOWN for row in kept).most_common(),
        sheets={label: show(_pick(members)) for label, members in by_label.items()},
        num_groups=len(together),
        groups=[show(members[:PICTURES_A_GROUP]) for members in together[:GROUPS]],
        decided=[row for row in rows if row.decision],
    )


def make_thumbnail(row: ManifestRow, data: bytes, *, bits: int = ALL_BITS) -> Thumbnail:
    """Decode a kept picture, shrink it and encode it anew."""
    image = Image.fromarray(decode_picture(data, bits=bits))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    text = base64.b64encode(buffer.getvalue()).decode()
    origin, size = row.provenance, row.fingerprint
    parts = (
        origin.source_url,
        origin.creator,
        origin.license,
        f"{size.width} x {size.height}" if size else "",
    )
    return Thumbnail(
        image=f"data:image/jpeg;base64,{text}",
        title=", ".join(part for part in parts if part),
        link=web_address(origin.page_url) or web_address(origin.source_url),
        split=row.split or "",
    )


def _pick(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    """Return pictures spread evenly over a class."""
    count = min(len(rows), PICTURES_A_CLASS)
    return [rows[number * len(rows) // count] for number in range(count)]


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("dataset.html")
