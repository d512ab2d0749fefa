"""Google Custom Search: the article's own source. Google ends it on 1 January 2027.

New customers have not been taken since; whoever has no key uses `openverse` or `wikimedia_commons`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from pipeline.config.sources import GoogleSection
from pipeline.datasets.fetcher import HttpClient
from pipeline.datasets.sources.search import (
    SearchResult,
    SearchSource,
    items,
    mapping,
    refuse_answer,
    text_or_none,
    web_address,
)
from pipeline.errors import StorageError
from pipeline.types import JsonObject

if TYPE_CHECKING:
    from googleapiclient.errors import HttpError

PAGE_SIZE = 10
MAX_RESULTS = 100
END = "Google ends the Custom Search JSON API on 1 January 2027 and takes no new customers"


class GoogleSource(SearchSource[GoogleSection]):
    """Results of `customsearch` v1, through Google's own client."""

    name = "Google Custom Search"

    def search(self, client: HttpClient, words: str) -> Iterator[SearchResult]:
        """Yield results page by page, at most 100."""
        if f"{END}." not in self.statements:
            self.statements.append(f"{END}.")
        key = self.context.find_secret(self.section.connection)
        for start in range(1, MAX_RESULTS, PAGE_SIZE):
            client.hosts.wait_turn(self.section.endpoint)
            answer = self._ask(key, words, start)
            results = items(answer.get("items"))
            for item in results:
                url = web_address(item.get("link"))
                if url is not None:
                    yield SearchResult(
                        url=url,
                        page_url=web_address(mapping(item.get("image")).get("contextLink")),
                        license_name=f"Google rights filter: {self.section.rights}"
                        if self.section.rights
                        else None,
                    )
            if len(results) < PAGE_SIZE or "nextPage" not in mapping(answer.get("queries")):
                return

    def _ask(self, key: str, words: str, start: int) -> JsonObject:
        from googleapiclient.discovery import build
        from googleapiclient.errors import HttpError

        options = {"rights": self.section.rights} if self.section.rights else {}
        try:
            with build(
                "customsearch",
                "v1",
                developerKey=key,
                client_options={"api_endpoint": self.section.endpoint},
                cache_discovery=False,
                static_discovery=True,
            ) as service:
                request = service.cse().list(
                    q=words, cx=self.section.engine, searchType="image", imgType="photo", safe="active",
                    num=PAGE_SIZE, start=start, **options,
                )  # fmt: skip
                return mapping(request.execute())
        except HttpError as error:
            self._refuse(error)
        except (OSError, ValueError) as error:
            raise StorageError(f"{self.name} does not answer: {type(error).__name__}. {END}.") from error

    def _refuse(self, error: HttpError) -> NoReturn:
        try:
            answer = mapping(mapping(json.loads(error.content)).get("error"))
        except ValueError:
            answer = {}
        message = text_or_none(answer.get("message")) or ""
        reasons = {str(item.get("reason")) for item in items(answer.get("errors"))}
        status = int(error.resp.status)
        if reasons & {"dailyLimitExceeded", "rateLimitExceeded", "quotaExceeded", "userRateLimitExceeded"}:
            status = 429
        elif status == 400 and "key" in message.lower():
            status = 403
        refuse_answer(
            self.name, status, message.rstrip("."),
            quota=f"A day has 100 free searches. {END}.",
            key=f"Put a valid key into the password of the connection `{self.section.connection}`. {END}.",
        )  # fmt: skip
