"""Flickr: photos by search words. Needs a key, in the password of an Airflow connection."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.config.sources import FlickrSection
from pipeline.datasets.fetcher import HttpClient
from pipeline.datasets.sources.licenses import License, attribute
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
from pipeline.types import JsonObject

PAGE_SIZE = 250
MAX_RESULTS = 4000  # further ones repeat
LICENSES = {
    "1": License(code="by-nc-sa", version="2.0"),
    "2": License(code="by-nc", version="2.0"),
    "3": License(code="by-nc-nd", version="2.0"),
    "4": License(code="by", version="2.0"),
    "5": License(code="by-sa", version="2.0"),
    "6": License(code="by-nd", version="2.0"),
    "9": License(code="cc0", version="1.0"),
    "10": License(code="pdm", version="1.0"),
    "11": License(code="by", version="4.0"),
    "12": License(code="by-sa", version="4.0"),
    "13": License(code="by-nd", version="4.0"),
    "14": License(code="by-nc", version="4.0"),
    "15": License(code="by-nc-sa", version="4.0"),
    "16": License(code="by-nc-nd", version="4.0"),
}
BAD_KEY, SERVICE_DOWN = (100,), (105, 106, 201)


class FlickrSource(SearchSource[FlickrSection]):
    """Results of `flickr.photos.search`."""

    name = "Flickr"

    def search(self, client: HttpClient, words: str) -> Iterator[SearchResult]:
        """Yield results page by page."""
        key = self.context.find_secret(self.section.connection)
        for page in range(1, MAX_RESULTS // PAGE_SIZE + 1):
            photos = self._ask(client, {"text": words, "page": page, "api_key": key})
            results = items(photos.get("photo"))
            for photo in results:
                url = web_address(photo.get("url_l")) or web_address(photo.get("url_m"))
                if url is not None:
                    yield _result(photo, url)
            pages = photos.get("pages")
            if not results or not isinstance(pages, int) or page >= pages:
                return

    def _ask(self, client: HttpClient, words: dict[str, str | int]) -> JsonObject:
        params = {
            "method": "flickr.photos.search",
            **words,
            "license": ",".join(id for id, each in LICENSES.items() if each.code in self.section.licenses),
            "content_type": 1,
            "media": "photos",
            "safe_search": 1,
            "sort": "relevance",
            "extras": "url_m,url_l,license,owner_name",
            "per_page": PAGE_SIZE,
            "format": "json",
            "nojsoncallback": 1,
        }
        url = f"{self.section.endpoint.rstrip('/')}/services/rest/"
        value, response = client.get_json(url, params)
        answer = mapping(value)
        code, message = answer.get("code"), text_or_none(answer.get("message"))
        help_quota = "A key has 3600 requests an hour; go on later."
        help_key = f"Put a valid key into the password of the connection `{self.section.connection}`."
        if answer.get("stat") == "fail" and code in BAD_KEY:
            raise SourceRefused(f"{self.name} refuses the key: {message}. {help_key}", code=code)
        if answer.get("stat") == "fail" and code in SERVICE_DOWN:
            raise StorageError(f"{self.name} is down: {message}; it may work later.", code=code)
        if response.status_code != 200:
            refuse_answer(self.name, response.status_code, message, quota=help_quota, key=help_key)
        if answer.get("stat") != "ok":
            raise SourceRefused(f"{self.name} says: {message or 'nothing that makes sense'}.", code=code)
        return mapping(answer.get("photos"))


def _result(photo: JsonObject, url: str) -> SearchResult:
    license = LICENSES.get(str(photo.get("license")))
    creator = text_or_none(photo.get("ownername"))
    page_url = f"https://www.flickr.com/photos/{photo.get('owner')}/{photo.get('id')}"
    return SearchResult(
        url=url,
        page_url=page_url,
        creator=creator,
        license=license,
        license_name=f"Flickr licence {text_or_none(str(photo.get('license')))}",
        attribution=attribute(text_or_none(photo.get("title")), creator, license, page_url)
        if license
        else None,
    )
