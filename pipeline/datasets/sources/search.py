"""What the image searches share: words by label, pages of results, licences, and the end of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, NoReturn, TypeVar

from pipeline.artifacts.provenance import Provenance
from pipeline.config.sources import FlickrSection, GoogleSection, OpenverseSection, WikimediaSection
from pipeline.datasets.fetcher import FetchReason, HttpClient, public_url
from pipeline.datasets.sources.licenses import License
from pipeline.datasets.sources.source import SourceContext, SourceEntry
from pipeline.errors import EmptyDataset, FetchRefused, SourceRefused, StorageError
from pipeline.types import JsonObject, JsonValue

Section = TypeVar("Section", OpenverseSection, WikimediaSection, GoogleSection, FlickrSection)
API_REQUESTS_PER_SECOND = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """One result of a search.

    Args:
        url: Where its bytes are.
        page_url: The page that shows it.
        creator: Who made it, as plain text.
        license: What it may be used under, None if that is unknown.
        license_name: The API's name of a licence that is none of ours.
        attribution: The credit line to show with it.
        refused: Why it is not taken, whatever its licence.
    """

    url: str
    page_url: str | None = None
    creator: str | None = None
    license: License | None = None
    license_name: str | None = None
    attribution: str | None = None
    refused: FetchReason | None = None


class SearchSource(ABC, Generic[Section]):
    """Pictures of an image search, label by label, in the order of its results.

    Of two labels that share a chunk the first is searched first. A class that is full is searched no further.

    Args:
        section: The source's section.
        context: Policy, keys, and who is full.
    """

    name = "the search"

    def __init__(self, section: Section, context: SourceContext) -> None:
        self.transferred = 0
        self.notes: JsonObject = {}
        self.statements: list[str] = []
        self.section: Section = section
        self.context = context

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield the results of every num_chunks-th label.

        Raises:
            SourceRefused: if the API says no; the message says why and what helps.
            StorageError: if it does not answer; transient.
            EmptyDataset: if nothing is found for a label.
        """
        section = self.section
        labels = list(section.searches)
        policy = self.context.policy.naming(section.endpoint)
        pace = min(API_REQUESTS_PER_SECOND, policy.config.requests_per_second)
        config = policy.config.model_copy(update={"requests_per_second": pace})
        with HttpClient(replace(policy, config=config)) as client:
            for number, label in enumerate(labels):
                if number % num_chunks == chunk:
                    # A label's results stay in its own range of positions, however many others have.
                    first = number * 1_000_000
                    for position, result in enumerate(self._results(client, label, section.searches[label])):
                        yield self._entry(first + position, label, result)

    def _results(self, client: HttpClient, label: str, searches: list[str]) -> Iterator[SearchResult]:
        seen: set[str] = set()
        for words in searches:
            try:
                for result in self.search(client, words):
                    if self.context.is_full(label):
                        return
                    if result.url not in seen:
                        seen.add(result.url)
                        yield result
            except FetchRefused as error:
                raise _explain(error, self.name) from error
        if not seen:
            raise EmptyDataset(
                f"{self.name} found no picture for {', '.join(map(repr, searches))} (label {label!r}); try "
                "other words, or allow more licences.",
                label=label,
            )

    def _entry(self, position: int, label: str, result: SearchResult) -> SourceEntry:
        allowed = getattr(self.section, "licenses", None)
        is_allowed = allowed is None or (result.license is not None and result.license.code in allowed)
        return SourceEntry(
            position=position,
            label=label,
            provenance=Provenance(
                source_url=public_url(result.url),
                page_url=web_address(result.page_url),
                creator=result.creator,
                license=result.license.name if result.license else result.license_name,
                license_url=result.license.url if result.license else None,
                attribution=result.attribution,
            ),
            validator="",
            url=result.url,
            refused=result.refused or (None if is_allowed else FetchReason.LICENSE_NOT_ALLOWED),
        )

    @abstractmethod
    def search(self, client: HttpClient, words: str) -> Iterator[SearchResult]:
        """Yield results, asking for a further page only when it is needed."""


def web_address(value: JsonValue) -> str | None:
    """Return an `http(s)` address as it is, None for any other JSON value."""
    text = str(value or "")
    return public_url(text) if text.startswith(("http://", "https://")) else None


def text_or_none(value: JsonValue) -> str | None:
    """Return a text without control characters, None for any other JSON value."""
    if not isinstance(value, str):
        return None
    text = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return text[:500] or None


def mapping(value: JsonValue) -> JsonObject:
    """Return a JSON object, empty for any other JSON value."""
    return value if isinstance(value, Mapping) else {}


def items(value: JsonValue) -> list[JsonObject]:
    """Return the objects of a JSON list, empty for any other JSON value."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def refuse_answer(name: str, status: int, message: JsonValue, *, quota: str, key: str) -> NoReturn:
    """Explain an API's status in plain words.

    Raises:
        SourceRefused: if the key is wrong, the quota is used up, or the request is not liked.
        StorageError: if the API is down; transient.
    """
    detail = text_or_none(message) or "no reason given"
    if status == 429:
        raise SourceRefused(f"{name}: the quota is used up: {detail}. {quota}", status=status)
    if status in (401, 403):
        raise SourceRefused(f"{name} refuses the key or the access: {detail}. {key}", status=status)
    if status >= 500:
        raise StorageError(f"{name} answered {status}: {detail}; it may work later.", status=status)
    raise SourceRefused(f"{name} answered {status}: {detail}.", status=status)


def _explain(error: FetchRefused, name: str) -> Exception:
    message = f"{name} cannot be asked: {error.message}"
    if FetchReason(error.reason).is_transient:
        return StorageError(message, reason=str(error.reason))
    return SourceRefused(message, reason=str(error.reason))
