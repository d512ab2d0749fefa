"""The pictures of a dataset version: searched, filtered, and shown small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pipeline.artifacts.manifest import ManifestRow
from pipeline.errors import ObjectNotFound
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pixels.spec import ALL_BITS
from pipeline.preprocess.decisions import Decision, read_decisions
from pipeline.preprocess.reasons import REASONS
from pipeline.report.gallery import picture_name, web_link

PAGE_SIZE = 60
LARGE_SIDE = 1024  # pixels of the longer side


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as pages show it; text that is not known is empty.

    Args:
        row: Its row in the manifest.
    """

    row: ManifestRow

    @property
    def id(self) -> str:
        """Digest of its pixels; empty where they cannot be decoded."""
        return self.row.id or ""

    @property
    def blob(self) -> str:
        """Digest of its file."""
        return self.row.blob

    @property
    def label(self) -> str:
        """Its class in this version."""
        return self.row.label

    @property
    def split(self) -> str:
        """`train` or `test`; empty unless kept."""
        return self.row.split or ""

    @property
    def reason(self) -> str:
        """Why it is not kept; empty if it is."""
        return self.row.reason or ""

    @property
    def creator(self) -> str:
        """Who made it."""
        return self.row.provenance.creator or ""

    @property
    def license(self) -> str:
        """Name of its licence."""
        return self.row.provenance.license or ""

    @property
    def decision(self) -> str:
        """What a person decided about it before this version was made."""
        return self.row.decision or ""

    @property
    def size(self) -> str:
        """`width x height` in pixels."""
        size = self.row.fingerprint
        return f"{size.width} x {size.height}" if size and size.width else ""

    @property
    def name(self) -> str:
        """Its file name."""
        return picture_name(self.row.source_url)

    @property
    def link(self) -> str | None:
        """Its address on the web, if it has one."""
        return web_link(self.row.provenance.page_url) or web_link(self.row.source_url)

    @property
    def license_link(self) -> str | None:
        """The address of its licence, if it is one that a browser may follow."""
        return web_link(self.row.provenance.license_url)

    @property
    def text(self) -> str:
        """What a search looks at: its address, creator and id, in lower case."""
        return "\n".join((self.row.source_url, self.creator, self.id)).casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """All pictures of a dataset version.

    Args:
        dataset: The classifier's name.
        version: The version.
        rows: In source order.
        by_id: The kept ones and those set aside that can be shown.
        reasons: How many are kept out, by reason.
        texts: What a search looks at, of each row.
    """

    dataset: str
    version: str
    rows: tuple[Picture, ...]
    by_id: Mapping[str, Picture]
    reasons: Mapping[str, int]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which pictures of a version are asked for.

    Args:
        label: Of this class only.
        split: `train`, `test`, or `out` for what was kept out.
        reason: Kept out for this reason only.
        text: What address, creator or id contain.
        page: Which page, from 1.
    """

    label: str = ""
    split: str = ""
    reason: str = ""
    text: str = ""
    page: int = 1

    def takes(self, picture: Picture) -> bool:
        """Return True if a picture is one of those asked for, whatever the text."""
        side = picture.split or "out"
        return (
            (not self.label or picture.label == self.label)
            and (not self.split or side == self.split)
            and (not self.reason or picture.reason == self.reason)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One page of pictures.

    Args:
        pictures: Those on the page.
        total: How many there are on all pages.
        page: Its number, from 1.
        pages: How many pages there are.
    """

    pictures: Sequence[Picture]
    total: int
    page: int
    pages: int


def read_pictures(cache: ArtifactCache, name: str, version: str) -> Pictures:
    """Read the manifest of a dataset version, once; pictures that were taken down since are left out.

    Raises:
        ObjectNotFound: if there is no such version.
    """
    from pipeline.explain.features import read_taken_down

    gone = frozenset(read_taken_down(cache.workspace, name))
    manifest = cache.manifest(cache.workspace.dataset(name).version(version))

    def make() -> Pictures:
        shown = (row for row in manifest if row.id not in gone and row.blob not in gone)
        rows = tuple(map(Picture, shown))
        by_id = {row.id: row for row in rows if row.id}
        reasons = Counter(row.reason for row in rows if row.reason)
        texts = tuple(row.text for row in rows)
        return Pictures(dataset=name, version=version, rows=rows, by_id=by_id, reasons=reasons, texts=texts)

    return cast("Pictures", cache.made.get(("pictures", name, version, gone), make))


def choose_pictures(pictures: Pictures, choice: Choice) -> Sheet:
    """Return a page of the pictures that are asked for; a page beyond the last is the last."""
    taken: Sequence[Picture] = pictures.rows
    if wanted := choice.text.casefold():
        taken = [each for each, text in zip(taken, pictures.texts, strict=True) if wanted in text]
    if choice.label or choice.split or choice.reason:
        taken = [each for each in taken if choice.takes(each)]
    pages = max(1, -(-len(taken) // PAGE_SIZE))
    page = min(max(choice.page, 1), pages)
    return Sheet(
        pictures=taken[(page - 1) * PAGE_SIZE : page * PAGE_SIZE], total=len(taken), page=page, pages=pages
    )


def explain_reasons(reasons: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Return why pictures were kept out, how many, and what it means; the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return [(reason, count, REASONS.get(reason, "as its source says")) for reason, count in ordered]


def pending_decisions(cache: ArtifactCache, name: str) -> dict[str, Decision]:
    """Return people's decisions, by the picture that they name; the next run applies them.

    Raises:
        ConfigError: if a line of `decisions.csv` is wrong; it names the line.
    """
    decisions = read_decisions(cache.workspace.dataset(name))
    return {decision.picture: decision for decision in decisions}


def make_thumbnail(cache: ArtifactCache, pictures: Pictures, id: str) -> bytes:
    """Return a picture of a version as a small JPEG, encoded anew.

    Raises:
        ObjectNotFound: if the version has no such picture, or its file is gone.
    """
    from pipeline.explain.thumbnails import SIDE

    picture, bits = _find_picture(cache, pictures, id)
    return cache.thumbnails.get(f"{picture.blob} {bits}", lambda: _encode(cache, picture, bits, SIDE))


def make_picture(cache: ArtifactCache, pictures: Pictures, id: str) -> bytes:
    """Return a picture of a version as a JPEG large enough to judge it; otherwise as `make_thumbnail`."""
    picture, bits = _find_picture(cache, pictures, id)
    return _encode(cache, picture, bits, LARGE_SIDE)


def _find_picture(cache: ArtifactCache, pictures: Pictures, id: str) -> tuple[Picture, int]:
    """Return a picture with the bits that its version reads."""
    picture = pictures.by_id.get(id)
    if picture is None:
        raise ObjectNotFound(f"Dataset version {pictures.version} has no picture {id!r} to show.", id=id)
    info = cache.dataset(pictures.dataset, pictures.version)
    return picture, info.bits if info else ALL_BITS


def _encode(cache: ArtifactCache, picture: Picture, bits: int, side: int) -> bytes:
    from pipeline.explain.thumbnails import encode_thumbnail

    data = cache.storage.read_bytes(cache.workspace.blob(picture.blob))
    return encode_thumbnail(data, side, bits=bits)
