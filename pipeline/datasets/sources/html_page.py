"""The pictures and links of an HTML page. Nothing of it is run; its text is data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urldefrag, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag
from soupsieve import SelectorSyntaxError

from pipeline.errors import ConfigError

LAZY_ATTRIBUTES = ("data-src", "data-original", "data-lazy-src", "data-lazy", "data-url", "data-image")
LAZY_SETS = ("data-srcset", "data-lazy-srcset")
OPT_OUTS = frozenset({"noai", "noimageai", "noimageindex"})
MAX_PICTURES = 5_000
MAX_CANDIDATES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """What a page shows and leads to, as absolute addresses, each once, in its order."""

    pictures: list[str]
    links: list[str]


def read_page(html: str, url: str, *, include: str | None = None, exclude: str | None = None) -> PageContent:
    """Find the pictures and links of a page.

    Of a picture offered in several sizes the largest is taken. A page that opts out by its `robots` meta tag
    has no pictures; one that says `nofollow` has no links.

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
    if not directives & OPT_OUTS:
        for tag in _picture_tags(soup, include, exclude):
            best = _join(base, _best_source(tag))
            if best and len(pictures) < MAX_PICTURES:
                pictures[best] = None
    links: dict[str, None] = {}
    if "nofollow" not in directives:
        for anchor in soup.find_all("a", href=True, limit=MAX_PICTURES):
            link = _join(base, str(anchor["href"]))
            if link:
                links[link] = None
    return PageContent(pictures=list(pictures), links=list(links))


def _directives(soup: BeautifulSoup) -> set[str]:
    directives = ""
    for tag in soup.find_all("meta", attrs={"name": True, "content": True}):
        if str(tag["name"]).lower() in ("robots", "graft"):
            directives += "," + str(tag["content"])
    return {word.strip().lower() for word in directives.split(",")}


def _picture_tags(soup: BeautifulSoup, include: str | None, exclude: str | None) -> Iterator[Tag]:
    try:
        inside = None if include is None else {id(tag) for tag in soup.select(include)}
        outside = set() if exclude is None else {id(tag) for tag in soup.select(exclude)}
    except (SelectorSyntaxError, NotImplementedError) as error:
        raise ConfigError(f"`include` and `exclude` want CSS selectors: {error}") from error
    for tag in soup.find_all("img"):
        line = {id(tag), *(id(parent) for parent in tag.parents)}
        if not line & outside and (inside is None or line & inside):
            yield tag


def _best_source(tag: Tag) -> str:
    sets = [str(tag.get(name) or "") for name in ("srcset", *LAZY_SETS)]
    if tag.parent is not None and tag.parent.name == "picture":
        for source in tag.parent.find_all("source"):
            if str(source.get("type") or "image/jpeg").lower() in ("image/jpeg", "image/png", "image/webp"):
                sets += [str(source.get(name) or "") for name in ("srcset", *LAZY_SETS)]
    candidates = [candidate for text in sets for candidate in parse_srcset(text)]
    if candidates:
        return max(candidates, key=lambda candidate: candidate[1])[0]
    singles = [str(tag.get(name) or "").strip() for name in (*LAZY_ATTRIBUTES, "src")]
    return next((single for single in singles if single and not single.startswith("data:")), "")


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
