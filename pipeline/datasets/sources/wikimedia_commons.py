"""Wikimedia Commons: freely licensed files, by search words or by category. No key is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from bs4 import BeautifulSoup

from pipeline.config.sources import WikimediaSection
from pipeline.datasets.fetcher import FetchReason, HttpClient
from pipeline.datasets.fetcher.hosts import parse_retry_after
from pipeline.datasets.sources.licenses import attribute, parse_license
from pipeline.datasets.sources.search import (
    SearchResult,
    SearchSource,
    items,
    mapping,
    refuse_answer,
    text_or_none,
    web_address,
)
from pipeline.errors import SourceRefused, StorageError
from pipeline.types import JsonObject, JsonValue

PAGE_SIZE = 50
MAX_PAGES = 200
FORMATS = ("image/jpeg", "image/png", "image/gif", "image/webp")
LAG_TRIES = 4


class WikimediaSource(SearchSource[WikimediaSection]):
    """Results of `action=query`, followed by its own `continue`."""

    name = "Wikimedia Commons"

    def search(self, client: HttpClient, words: str) -> Iterator[SearchResult]:
        """Yield results page by page."""
        following: dict[str, str | int] = {}
        for _ in range(MAX_PAGES):
            answer = self._ask(client, {**self._params(words), **following})
            pages = items(mapping(answer.get("query")).get("pages"))
            for page in sorted(pages, key=lambda page: (_number(page.get("index")), str(page.get("title")))):
                result = self._result(page)
                if result is not None:
                    yield result
            following = {name: str(value) for name, value in mapping(answer.get("continue")).items()}
            if not following:
                return

    def _params(self, words: str) -> dict[str, str | int]:
        if words.startswith("Category:"):
            generator = {"generator": "categorymembers", "gcmtitle": words, "gcmtype": "file"}
            generator["gcmlimit"] = str(PAGE_SIZE)
        else:
            generator = {"generator": "search", "gsrsearch": f"filetype:bitmap {words}"}
            generator |= {"gsrnamespace": "6", "gsrlimit": str(PAGE_SIZE)}
        return {
            "action": "query",
            **generator,
            "prop": "imageinfo",
            "iiprop": "url|size|mime|extmetadata",
            "iiurlwidth": self.section.width,
            "format": "json",
            "formatversion": 2,
            "maxlag": 5,
        }

    def _ask(self, client: HttpClient, params: Mapping[str, str | int]) -> JsonObject:
        url = f"{self.section.endpoint.rstrip('/')}/w/api.php"
        for _ in range(LAG_TRIES):
            value, response = client.get_json(url, params)
            answer = mapping(value)
            error = mapping(answer.get("error"))
            if error.get("code") == "maxlag":
                pause = parse_retry_after(response.headers.get("retry-after"))
                time.sleep(min(5.0 if pause is None else max(pause, 0.0), client.policy.retry_after_cap))
                continue
            if error.get("code") == "ratelimited" or response.status_code != 200:
                refuse_answer(
                    self.name, 429 if error else response.status_code, error.get("info"),
                    quota="Set GRAFT_FETCH_CONTACT so that Wikimedia can tell you apart, and go on later.",
                    key="It wants a User-Agent with a contact: set GRAFT_FETCH_CONTACT.",
                )  # fmt: skip
            if error:
                raise SourceRefused(f"{self.name} says: {text_or_none(error.get('info')) or error}")
            return answer
        raise StorageError(f"{self.name} is lagging behind and asks to be left alone for now.")

    def _result(self, page: JsonObject) -> SearchResult | None:
        info = (items(page.get("imageinfo")) or [{}])[0]
        url = web_address(info.get("thumburl")) or web_address(info.get("url"))
        if url is None:
            return None
        facts = {
            name: mapping(value).get("value") for name, value in mapping(info.get("extmetadata")).items()
        }
        license_name = plain_text(facts.get("LicenseShortName"))
        license = parse_license(license_name or "")
        creator = plain_text(facts.get("Artist"))
        page_url = web_address(info.get("descriptionurl"))
        title = (text_or_none(page.get("title")) or "").removeprefix("File:")
        return SearchResult(
            url=url,
            page_url=page_url,
            creator=creator,
            license=license,
            license_name=license_name,
            attribution=attribute(title, creator, license, page_url) if license else None,
            refused=None if info.get("mime") in FORMATS else FetchReason.UNSUPPORTED_FORMAT,
        )


def plain_text(html: JsonValue) -> str | None:
    """Return the text of the HTML that Commons has in its metadata, None where there is none."""
    if not isinstance(html, str):
        return None
    soup = BeautifulSoup(html[:10_000], "html.parser")
    for tag in soup(["script", "style"]):
        tag.decompose()
    return text_or_none(soup.get_text(" "))


def _number(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0
