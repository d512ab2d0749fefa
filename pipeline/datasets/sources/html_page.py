"""The pictures and links of an HTML page. Nothing of it is run; its text is data."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag
from soupsieve import SelectorSyntaxError

from pipeline.errors import ConfigError
from pipeline.types import JsonValue

# Where galleries name the large picture, before where they name the one to be shown.
FULL_ATTRIBUTES = (
    *("data-full", "data-full-src", "data-large", "data-large-src", "data-large_image", "data-zoom-image"),
    *("data-zoom-src", "data-hires", "data-highres", "data-hi-res-src", "data-original"),
)
LAZY_ATTRIBUTES = ("data-src", "data-lazy-src", "data-lazy", "data-url", "data-image", "data-img")
LAZY_SETS = ("data-srcset", "data-lazy-srcset")
BACKGROUND_ATTRIBUTES = ("data-bg", "data-background", "data-background-image")
IMAGE_TAGS = ("img", "amp-img")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff")
_BACKGROUND = re.compile(r"background(?:-image)?\s*:[^;]*?url\(\s*(['\"]?)(.+?)\1\s*\)", re.IGNORECASE)
OPT_OUTS = frozenset({"noai", "noimageai", "noimageindex"})
MAX_PICTURES = 5_000
MAX_CANDIDATES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """What a page shows and leads to, as absolute addresses, each once, in its order.

    Args:
        pictures: Of each picture the largest that the page offers.
        links: Where the page leads to.
        not_taken: What looks like a picture and is not taken, by kind.
    """

    pictures: list[str]
    links: list[str]
    not_taken: Counter[str] = field(default_factory=Counter)


def read_page(html: str, url: str, *, include: str | None = None, exclude: str | None = None) -> PageContent:
    """Find the pictures and links of a page.

    Of a picture offered in several sizes the largest is taken, also one that a thumbnail links to.
    Backgrounds and pictures of structured data count; the preview picture of the page only if there is no
    other. A page that opts out by its `robots` meta tag has no pictures; one that says `nofollow` no links.

    Args:
        html: The page.
        url: Its address.
        include: CSS selector: only pictures inside what it matches.
        exclude: CSS selector: no picture inside what it matches.

    Raises:
        ConfigError: for a selector that is none.
    """
    soup = BeautifulSoup(html, "html.parser")
    base_tag = soup.find("base", href=True)
    base = _join(url, str(base_tag["href"])) or url if isinstance(base_tag, Tag) else url
    directives = _directives(soup)
    pictures: dict[str, None] = {}
    not_taken: Counter[str] = Counter()
    if not directives & OPT_OUTS:
        for address in _picture_addresses(soup, include, exclude, not_taken):
            best = _join(base, address)
            if best and len(pictures) < MAX_PICTURES:
                pictures[best] = None
        _add_preview(soup, base, pictures, not_taken)
    links: dict[str, None] = {}
    if "nofollow" not in directives:
        for anchor in soup.find_all("a", href=True, limit=MAX_PICTURES):
            link = _join(base, str(anchor["href"]))
            if link:
                links[link] = None
    return PageContent(pictures=list(pictures), links=list(links), not_taken=not_taken)


def _directives(soup: BeautifulSoup) -> set[str]:
    directives = ""
    for tag in soup.find_all("meta", attrs={"name": True, "content": True}):
        if str(tag["name"]).lower() in ("robots", "graft"):
            directives += "," + str(tag["content"])
    return {word.strip().lower() for word in directives.split(",")}


def _picture_addresses(
    soup: BeautifulSoup, include: str | None, exclude: str | None, not_taken: Counter[str]
) -> Iterator[str]:
    try:
        inside = None if include is None else {id(tag) for tag in soup.select(include)}
        outside = set() if exclude is None else {id(tag) for tag in soup.select(exclude)}
    except (SelectorSyntaxError, NotImplementedError) as error:
        raise ConfigError(f"`include` and `exclude` want CSS selectors: {error}") from error
    for tag in soup.find_all(True):
        address = _address_of(tag)
        if address is None:
            continue
        line = {id(tag), *(id(parent) for parent in tag.parents)}
        if line & outside or (inside is not None and not line & inside):
            continue  # as the user wants
        if not address:
            not_taken["without an address, or in a `data:` address"] += 1
        else:
            yield address
    if inside is None:
        yield from _structured_pictures(soup)


def _address_of(tag: Tag) -> str | None:
    """Return where the largest version of a picture is; None for a tag that shows none."""
    if tag.name in IMAGE_TAGS:
        own = _best_source(tag)
    else:
        match = _BACKGROUND.search(str(tag.get("style") or ""))
        named = (str(tag.get(name) or "").strip() for name in BACKGROUND_ATTRIBUTES)
        own = match[2] if match else next((each for each in named if each), "")
        if not own or own.startswith("data:"):
            return None
    return _linked_picture(tag) or own


def _linked_picture(tag: Tag) -> str:
    """Return the picture that a thumbnail links to; empty if it links to none."""
    anchor = tag if tag.name == "a" else tag.find_parent("a", href=True)
    address = str(anchor.get("href") or "").strip() if isinstance(anchor, Tag) else ""
    return address if address.partition("?")[0].lower().endswith(PICTURE_SUFFIXES) else ""


def _best_source(tag: Tag) -> str:
    sets = [str(tag.get(name) or "") for name in ("srcset", *LAZY_SETS)]
    if tag.parent is not None and tag.parent.name == "picture":
        for source in tag.parent.find_all("source"):
            if str(source.get("type") or "image/jpeg").lower() in ("image/jpeg", "image/png", "image/webp"):
                sets += [str(source.get(name) or "") for name in ("srcset", *LAZY_SETS)]
    full = next((address for name in FULL_ATTRIBUTES if (address := _plain(tag.get(name)))), "")
    candidates = [candidate for text in sets for candidate in parse_srcset(text)]
    if full or candidates:
        return full or max(candidates, key=lambda candidate: candidate[1])[0]
    singles = (_plain(tag.get(name)) for name in (*LAZY_ATTRIBUTES, "src"))
    return next((single for single in singles if single), "")


def _plain(value: str | list[str] | None) -> str:
    """Return an attribute's address; empty if it has none, or the picture itself."""
    text = str(value or "").strip()
    return "" if text.startswith("data:") else text


def _structured_pictures(soup: BeautifulSoup) -> Iterator[str]:
    """Yield the pictures that JSON-LD describes as such."""
    for script in soup.find_all("script", attrs={"type": "application/ld+json"}, limit=MAX_CANDIDATES):
        try:
            values: list[JsonValue] = [json.loads(script.get_text())]
        except (ValueError, RecursionError):
            continue
        for _ in range(MAX_PICTURES):
            if not values:
                break
            value = values.pop()
            if isinstance(value, list):
                values += reversed(value)
            elif isinstance(value, dict):
                address = value.get("contentUrl") if value.get("@type") == "ImageObject" else None
                if isinstance(address, str):
                    yield address
                values += reversed(value.values())


def _add_preview(soup: BeautifulSoup, base: str, pictures: dict[str, None], not_taken: Counter[str]) -> None:
    """Take the picture that a page gives for previews of itself, if it shows no other."""
    for tag in soup.find_all("meta", attrs={"property": ["og:image", "og:image:url"]}, limit=MAX_CANDIDATES):
        address = _join(base, str(tag.get("content") or ""))
        if address and not pictures:
            pictures[address] = None
        elif address and address not in pictures:
            not_taken["previews of the page (og:image)"] += 1


def parse_srcset(text: str) -> list[tuple[str, float]]:
    """Return the addresses of a `srcset` with their widths or densities."""
    candidates = []
    for part in text.replace(",\n", ", ").split(", ")[:MAX_CANDIDATES]:
        words = part.strip().strip(",").split()
        if words and not words[0].startswith("data:"):
            candidates.append((words[0], _size(words[1] if len(words) > 1 else "1x")))
    return candidates


def _size(descriptor: str) -> float:
    try:
        size = float(descriptor[:-1])
    except ValueError:
        return 0.0
    return size if descriptor[-1] in "wx" and 0 <= size < 1e6 else 0.0


def _join(base: str, address: str) -> str | None:
    """Return an absolute `http(s)` address without its fragment, None for any other."""
    try:
        target = urldefrag(urljoin(base, address.strip())).url
        parts = urlsplit(target)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return None
    return target if address.strip() and is_web else None
