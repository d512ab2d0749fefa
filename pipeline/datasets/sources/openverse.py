"""Openverse: openly licensed pictures, with attribution ready to print. No key is needed."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.config.sources import OpenverseSection
from pipeline.datasets.fetcher import HttpClient
from pipeline.datasets.sources.licenses import parse_license
from pipeline.datasets.sources.search import (
    SearchResult,
    SearchSource,
    items,
    mapping,
    refuse_answer,
    text_or_none,
    web_address,
)

PAGE_SIZE = 20  # without a key a larger page is answered by 401
MAX_PAGES = 20


class OpenverseSource(SearchSource[OpenverseSection]):
    """Results of `/v1/images/`."""

    name = "Openverse"

    def search(self, client: HttpClient, words: str) -> Iterator[SearchResult]:
        """Yield results page by page."""
        for page in range(1, MAX_PAGES + 1):
            params: dict[str, str | int] = {
                "q": words,
                "license": ",".join(self.section.licenses),
                "page": page,
                "page_size": PAGE_SIZE,
                "mature": "false",
            }
            value, response = client.get_json(f"{self.section.endpoint.rstrip('/')}/v1/images/", params)
            answer = mapping(value)
            if response.status_code != 200:
                refuse_answer(
                    self.name, response.status_code, answer.get("detail"),
                    quota="Without a key a day has 200 requests; go on tomorrow.",
                    key="Graft asks without a key; a page has 20 results.",
                )  # fmt: skip
            results = items(answer.get("results"))
            for item in results:
                url = web_address(item.get("url"))
                if url is not None:
                    yield SearchResult(
                        url=url,
                        page_url=web_address(item.get("foreign_landing_url")),
                        creator=text_or_none(item.get("creator")),
                        license=parse_license(
                            str(item.get("license")), text_or_none(item.get("license_version"))
                        ),
                        license_name=text_or_none(item.get("license")),
                        attribution=text_or_none(item.get("attribution")),
                    )
            pages = answer.get("page_count")
            if not results or not isinstance(pages, int) or page >= pages:
                return
