"""The pictures of an HTML page, and of pages linked from it on the same site."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator
from urllib.parse import urlsplit

from pipeline.artifacts.provenance import Provenance
from pipeline.config.sources import WebPageSection
from pipeline.datasets.fetcher import FetchReason, HttpClient, public_url
from pipeline.datasets.fetcher.picture import opts_out
from pipeline.datasets.fetcher.robots import Robots
from pipeline.datasets.sources.html_page import read_page
from pipeline.datasets.sources.source import SourceContext, SourceEntry
from pipeline.errors import EmptyDataset, FetchRefused, SourceNotFound, StorageError
from pipeline.types import JsonObject

log = logging.getLogger(__name__)


class WebPageSource:
    """Pictures in the order of the pages: page by page, nearer pages first. Not read in parts.

    robots.txt is obeyed for every page and picture, of every host.

    Args:
        section: The source's section.
        context: The policy.
    """

    def __init__(self, section: WebPageSection, context: SourceContext) -> None:
        self.transferred = 0
        self.notes: JsonObject = {}
        self.statements: list[str] = []
        self._not_taken: Counter[str] = Counter()
        self._section = section
        self._context = context

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield every picture once, all in the first chunk.

        Raises:
            SourceNotFound: if the first page cannot be had, or keeps robots out.
            StorageError: if it may be had later.
            EmptyDataset: if no page has a picture.
        """
        if chunk:
            return
        seen: set[str] = set()
        failed: Counter[str] = Counter()
        with HttpClient(self._context.policy) as client:
            for page, pictures in self._pages(client, failed):
                for url in pictures:
                    if url in seen:
                        continue
                    yield SourceEntry(
                        position=len(seen),
                        label=self._section.label or "",
                        provenance=Provenance(source_url=public_url(url), page_url=public_url(page)),
                        validator=f"min_side {self._section.min_side}",
                        url=url,
                        obeys_robots=True,
                        min_side=self._section.min_side,
                    )
                    seen.add(url)
        if self._not_taken:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._not_taken.items()))
            self.statements.append(f"pictures of pages that were not taken: {kinds}")
        if failed:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(failed.items()))
            self.statements.append(f"linked pages that could not be read: {counts}")
        if not seen:
            raise EmptyDataset(
                f"no picture was found on {public_url(self._section.uri)}; look at `depth`, `include` and "
                "`exclude`. A page that draws its pictures by script shows none here.",
                uri=public_url(self._section.uri),
            )

    def _pages(self, client: HttpClient, failed: Counter[str]) -> Iterator[tuple[str, list[str]]]:
        robots = Robots(client)
        start = self._section.uri
        todo, queued, num_read = deque([(start, 0)]), {start}, 0
        while todo and num_read < self._section.max_pages:
            if self._context.is_full(self._section.label or ""):
                return
            url, depth = todo.popleft()
            num_read += 1
            try:
                text, response = client.get_text(url, headers={"Accept": "text/html"}, check_hop=robots.check)
            except FetchRefused as error:
                if url == start:
                    raise _explain(error, public_url(start)) from error
                failed[str(error.reason)] += 1
                continue
            if "html" not in response.headers.get("content-type", "html").lower():
                continue
            content = read_page(
                text, response.url, include=self._section.include, exclude=self._section.exclude
            )
            opted_out = self._context.policy.config.honour_opt_outs and opts_out(
                response.headers.get("x-robots-tag", "")
            )
            self._not_taken.update(content.not_taken)
            yield response.url, [] if opted_out else content.pictures
            for link in content.links if depth < self._section.depth else []:
                if link not in queued and _site(link) == _site(start):
                    queued.add(link)
                    todo.append((link, depth + 1))


def _site(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def _explain(error: FetchRefused, url: str) -> Exception:
    message = error.message if url in error.message else f"{url} {error.message}"
    if FetchReason(error.reason).is_transient:
        return StorageError(message, url=url)
    return SourceNotFound(f"{message} Correct `dataset.source.uri`.", url=url, reason=str(error.reason))
