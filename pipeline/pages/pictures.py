"""The pictures of a dataset version: found, filtered, and shown small."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifacts.dataset import version_uri
from pipeline.errors import ObjectNotFound
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.preprocess.decisions import Decision, read_decisions, read_takedowns
from pipeline.preprocess.reasons import REASONS
from pipeline.report.gallery import picture_name, web_link

PAGE_SIZE = 60
MANIFEST = "manifest.jsonl"
TEXTS = (
    *("id", "blob", "label", "split", "reason", "source_url", "page_url"),
    *("creator", "license", "license_url", "decision"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture as pages show it.

    Args:
        id: Digest of its pixels; empty where they cannot be decoded.
        blob: Digest of its file.
        label: Its class in this version.
        split: `train` or `test`; empty unless kept.
        reason: Why it is not kept; empty if it is.
        source_url: Where its bytes came from.
        page_url: The page that shows it to people.
        creator: Who made it.
        license: Name of its licence.
        license_url: Where the licence is to be read.
        size: `width x height` in pixels.
        decision: What a person decided about it before this version was made.
    """

    id: str
    blob: str
    label: str
    split: str
    reason: str
    source_url: str
    page_url: str
    creator: str
    license: str
    license_url: str
    size: str
    decision: str

    @property
    def name(self) -> str:
        """Its file name."""
        return picture_name(self.source_url)

    @property
    def link(self) -> str | None:
        """Where it is on the web, if it is there."""
        return web_link(self.page_url) or web_link(self.source_url)

    @property
    def license_link(self) -> str | None:
        """The address of its licence, if it is one that a browser may follow."""
        return web_link(self.license_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """All pictures of a dataset version.

    Args:
        version: The version.
        rows: In source order.
        by_id: The kept ones and those set aside that can be shown.
    """

    version: str
    rows: tuple[Picture, ...]
    by_id: Mapping[str, Picture]


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
        """Say whether a picture is one of those asked for."""
        side = picture.split or "out"
        return (
            (not self.label or picture.label == self.label)
            and (not self.split or side == self.split)
            and (not self.reason or picture.reason == self.reason)
            and (not self.text or _contains(picture, self.text.casefold()))
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
    found = cache.manifests.get((name, version), lambda: _parse(cache, name, version))
    takedowns = read_takedowns(cache.storage, cache.workspace, name)
    gone = {blob for each in takedowns for blob in each.blobs} | {each.id for each in takedowns if each.id}
    if not gone:
        return found
    rows = tuple(row for row in found.rows if row.id not in gone and row.blob not in gone)
    return Pictures(version=version, rows=rows, by_id={row.id: row for row in rows if row.id})


def _parse(cache: ArtifactCache, name: str, version: str) -> Pictures:
    data = cache.storage.read_bytes(f"{version_uri(cache.workspace, name, version)}/{MANIFEST}")
    rows = tuple(_picture(json.loads(line)) for line in data.splitlines())
    return Pictures(version=version, rows=rows, by_id={row.id: row for row in rows if row.id})


def _picture(row: Mapping[str, object]) -> Picture:
    values = {name: str(row.get(name) or "") for name in TEXTS}
    return Picture(**values, size=f"{row['width']} x {row['height']}" if row.get("width") else "")


def _contains(picture: Picture, text: str) -> bool:
    return any(text in value.casefold() for value in (picture.source_url, picture.creator, picture.id))


def choose_pictures(found: Pictures, choice: Choice) -> Sheet:
    """Return a page of the pictures that are asked for; a page beyond the last is the last."""
    taken = [picture for picture in found.rows if choice.takes(picture)]
    pages = max(1, -(-len(taken) // PAGE_SIZE))
    page = min(max(choice.page, 1), pages)
    return Sheet(
        pictures=taken[(page - 1) * PAGE_SIZE : page * PAGE_SIZE], total=len(taken), page=page, pages=pages
    )


def count_reasons(found: Pictures) -> list[tuple[str, int, str]]:
    """Return why pictures were kept out, how many, and what it means; the most frequent first."""
    counts = Counter(picture.reason for picture in found.rows if picture.reason)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(reason, count, REASONS.get(reason, "as its source says")) for reason, count in ordered]


def pending_decisions(cache: ArtifactCache, name: str) -> dict[str, Decision]:
    """Return what people decided, by the id it names; the next run applies it.

    Raises:
        ConfigError: if a line of `decisions.csv` is wrong; it names the line.
    """
    found = read_decisions(cache.storage, cache.workspace, name)
    return {decision.picture: decision for decision in found}


def make_thumbnail(cache: ArtifactCache, found: Pictures, id: str) -> bytes:
    """Return a picture of a version as a small JPEG, encoded anew.

    Raises:
        ObjectNotFound: if the version has no such picture, or its file is gone.
    """
    picture = found.by_id.get(id)
    if picture is None:
        raise ObjectNotFound(f"Dataset version {found.version} has no picture {id!r} to show.", id=id)

    def make() -> bytes:
        from pipeline.explain.thumbnails import encode_thumbnail

        return encode_thumbnail(cache.storage.read_bytes(f"{cache.workspace}/blobs/{picture.blob}"))

    thumbnail: Callable[[], bytes] = make
    return cache.thumbnails.get(picture.blob, thumbnail)
