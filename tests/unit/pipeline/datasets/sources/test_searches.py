"""The image searches against loopback servers that answer in each API's documented shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, strategies as st

from pipeline.artifacts.fetch_index import FetchedRow, FetchIndex
from pipeline.config import FetchConfig
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.fetcher import FetchPolicy
from pipeline.datasets.fetcher.policy import parse_allowed
from pipeline.datasets.sources.licenses import parse_license
from pipeline.datasets.sources.wikimedia_commons import plain_text
from pipeline.errors import ConfigError, EmptyDataset, PipelineError, SourceRefused, StorageError
from tests.fakes.pictures import classifier_of, storage_in
from tests.fakes.rows import index_rows, workspace_of
from tests.fakes.site import Answer, Site, SiteHandler, site_running

SEARCHES = {"queries": {"ant": "an ant", "bee": ["bee", "honey bee"]}}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("pipeline.datasets.sources.search.API_REQUESTS_PER_SECOND", 500.0)
    with site_running() as running:
        running.add_pictures(40, size=70)
        yield running


def query(handler: SiteHandler) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}


def says(value: Any, **options: Any) -> Answer:
    return lambda handler: handler.give(json.dumps(value).encode(), type="application/json", **options)


def fetch(site: Site, tmp_path: Path, type: str, **section: Any) -> tuple[list[FetchedRow], Any]:
    source = {"type": type, "endpoint": site.url(""), **SEARCHES, **section}
    storage = storage_in(tmp_path)
    policy = FetchPolicy(
        allowed=parse_allowed(site.host),
        config=FetchConfig(requests_per_second=500, concurrency=4),
        retry_after_cap=0.1,
    )
    result = fetch_pictures(
        workspace_of(storage),
        classifier_of(source),
        policy=policy,
        find_secret=lambda name: "KEY",
    )
    return index_rows(storage, result.index), result


def openverse(site: Site) -> Answer:
    """Pages of two results; `by-nc` among them although it was not asked for."""

    def answer(handler: SiteHandler) -> None:
        asked = query(handler)
        first = {"an ant": 0, "bee": 10, "honey bee": 12}[asked["q"]] + 2 * int(asked["page"]) - 2
        results = [
            {
                "id": str(number),
                "url": site.url(f"/good/{number}.png"),
                "foreign_landing_url": f"https://example.org/{number}",
                "creator": f"<b>Maker</b> {number}",
                "license": "by-nc" if number == 1 else "by",
                "license_version": "2.0",
                "attribution": f'"Ant" by Maker {number}, CC BY 2.0',
            }
            for number in (first, first + 1)
        ]
        says({"result_count": 4, "page_count": 2, "page": int(asked["page"]), "results": results})(handler)

    return answer


class TestOpenverse:
    def test_pages_licences_and_attribution_are_taken(self, site: Site, tmp_path: Path) -> None:
        site.answers["/v1/images/"] = openverse(site)
        rows, result = fetch(site, tmp_path, "openverse")
        assert [row.source_url.rpartition("/")[2] for row in rows if row.label == "ant"] == [
            f"{n}.png" for n in range(4)
        ]
        # The second words give two pictures that the first ones gave already.
        assert [row.source_url.rpartition("/")[2] for row in rows if row.label == "bee"] == [
            f"{n}.png" for n in range(10, 16)
        ]
        assert result.refused == {"license_not_allowed": 1}
        row = rows[0]
        assert (row.provenance.license, row.provenance.license_url) == (
            "CC BY 2.0",
            "https://creativecommons.org/licenses/by/2.0/",
        )
        assert (row.provenance.page_url, row.provenance.attribution) == (
            "https://example.org/0",
            '"Ant" by Maker 0, CC BY 2.0',
        )
        assert row.network

    def test_a_full_class_is_searched_no_further(self, site: Site, tmp_path: Path) -> None:
        site.answers["/v1/images/"] = openverse(site)
        rows, _ = fetch(site, tmp_path, "openverse", limit_per_class=2)
        assert [row.label for row in rows if row.reason is None] == ["ant", "ant", "bee", "bee"]

    @pytest.mark.parametrize(
        ("status", "body", "error", "match"),
        [
            (
                429,
                {"detail": "Request was throttled."},
                SourceRefused,
                "quota is used up: Request was throttled.*200 req",
            ),
            (
                401,
                {"detail": "page_size must be <= 20"},
                SourceRefused,
                "refuses the key or the access: page_size",
            ),
            (400, {"detail": {"q": "bad"}}, SourceRefused, "answered 400"),
            (503, {}, StorageError, "answered 503.*may work later"),
            (200, {"results": [], "page_count": 0}, EmptyDataset, "found no picture for 'an ant'"),
            (200, {"results": "no list"}, EmptyDataset, "found no picture"),
            (200, ["no object"], EmptyDataset, "found no picture"),
        ],
    )
    def test_a_refusal_is_told_in_words(
        self, site: Site, tmp_path: Path, status: int, body: Any, error: type[PipelineError], match: str
    ) -> None:
        site.answers["/v1/images/"] = says(body, status=status)
        with pytest.raises(error, match=match):
            fetch(site, tmp_path, "openverse")

    def test_an_answer_that_is_no_json_is_told(self, site: Site, tmp_path: Path) -> None:
        site.add("/v1/images/", b"<html>", type="text/html")
        with pytest.raises(SourceRefused, match="answered no JSON"):
            fetch(site, tmp_path, "openverse")


def wikimedia(site: Site, asked: list[dict[str, str]]) -> Answer:
    def page(number: int, **info: Any) -> dict[str, Any]:
        metadata = {
            "LicenseShortName": {"value": "CC BY-SA 4.0"},
            "Artist": {"value": '<a href="//x"><script>alert(1)</script>Jane &amp; Co</a>'},
        }
        image = {
            "thumburl": site.url(f"/good/{number}.png"),
            "url": site.url("/original.png"),
            "descriptionurl": f"https://commons.example/File:{number}",
            "mime": "image/png",
            "extmetadata": metadata,
            **info,
        }
        return {"pageid": number, "title": f"File:{number}.png", "index": number, "imageinfo": [image]}

    def answer(handler: SiteHandler) -> None:
        params = query(handler)
        asked.append(params)
        base = 20 if "Category" in params.get("gcmtitle", "") else 0
        if "gsroffset" in params or "gcmcontinue" in params:
            more = page(base + 2, extmetadata={"LicenseShortName": {"value": "Fair use"}})
            says({"query": {"pages": [more, page(base + 3, mime="image/svg+xml")]}})(handler)
        else:
            following = (
                {"gcmcontinue": "file|x", "continue": "-||"} if base else {"gsroffset": 2, "continue": "-||"}
            )
            says({"continue": following, "query": {"pages": [page(base + 1), page(base)]}})(handler)

    return answer


class TestWikimedia:
    def test_words_and_categories_are_followed_by_continue(self, site: Site, tmp_path: Path) -> None:
        asked: list[dict[str, str]] = []
        site.answers["/w/api.php"] = wikimedia(site, asked)
        rows, result = fetch(
            site, tmp_path, "wikimedia_commons", queries={"ant": "ant"}, categories={"bee": "Bees"}, width=320
        )
        kept = [(row.label, row.source_url.rpartition("/")[2]) for row in rows if row.reason is None]
        assert kept == [("ant", "0.png"), ("ant", "1.png"), ("bee", "20.png"), ("bee", "21.png")]
        assert result.refused == {"license_not_allowed": 2, "unsupported_format": 2}
        assert (rows[0].provenance.creator, rows[0].provenance.license) == ("Jane & Co", "CC BY-SA 4.0")
        assert (
            rows[0].provenance.attribution
            == '"0.png" by Jane & Co, CC BY-SA 4.0, https://commons.example/File:0'
        )
        assert asked[0]["gsrsearch"] == "filetype:bitmap ant"
        assert asked[0]["iiurlwidth"] == "320"
        assert {params.get("gcmtitle") for params in asked} == {None, "Category:Bees"}
        assert site.headers_of[next(path for path in site.headers_of if "api.php" in path)][
            "User-Agent"
        ].startswith("graft/")

    def test_a_lagging_server_is_waited_for(self, site: Site, tmp_path: Path) -> None:
        left, good = [2], wikimedia(site, [])

        def answer(handler: SiteHandler) -> None:
            left[0] -= 1
            if left[0] >= 0:
                says({"error": {"code": "maxlag", "info": "lag"}}, Retry_After="0")(handler)
            else:
                good(handler)

        site.answers["/w/api.php"] = answer
        assert len(fetch(site, tmp_path, "wikimedia_commons")[0]) > 2

    @pytest.mark.parametrize(
        ("body", "status", "error", "match"),
        [
            (
                {"error": {"code": "ratelimited", "info": "too fast"}},
                200,
                SourceRefused,
                "quota is used up: too fast.*CONTACT",
            ),
            ({"error": {"code": "badvalue", "info": "no such"}}, 200, SourceRefused, "says: no such"),
            ({}, 403, SourceRefused, "set GRAFT_FETCH_CONTACT"),
            ({"batchcomplete": True}, 200, EmptyDataset, "Wikimedia Commons found no picture"),
        ],
    )
    def test_a_refusal_is_told_in_words(
        self, site: Site, tmp_path: Path, body: Any, status: int, error: type[PipelineError], match: str
    ) -> None:
        site.answers["/w/api.php"] = says(body, status=status)
        with pytest.raises(error, match=match):
            fetch(site, tmp_path, "wikimedia_commons")


def flickr(site: Site) -> Answer:
    def answer(handler: SiteHandler) -> None:
        asked = query(handler)
        assert (asked["api_key"], asked["method"]) == ("KEY", "flickr.photos.search")
        page, first = int(asked["page"]), len(asked["text"])
        photos = [
            {
                "id": str(n),
                "owner": "me",
                "ownername": "Me",
                "title": "A",
                "license": "4",
                "url_m": site.url(f"/good/{n}.png"),
            }
            for n in (first + page,)
        ]
        says({"photos": {"page": page, "pages": 2, "perpage": 1, "total": 2, "photo": photos}, "stat": "ok"})(
            handler
        )

    return answer


class TestFlickr:
    def test_pages_are_followed_and_licences_named(self, site: Site, tmp_path: Path) -> None:
        site.answers["/services/rest/"] = flickr(site)
        rows, _ = fetch(site, tmp_path, "flickr")
        assert [row.label for row in rows] == ["ant"] * 2 + ["bee"] * 4
        assert (rows[0].provenance.license, rows[0].provenance.creator, rows[0].provenance.page_url) == (
            "CC BY 2.0",
            "Me",
            "https://www.flickr.com/photos/me/7",
        )

    @pytest.mark.parametrize(
        ("body", "status", "error", "match"),
        [
            (
                {"stat": "fail", "code": 100, "message": "Invalid API Key"},
                200,
                SourceRefused,
                "refuses the key: Invalid.*`flickr_default`",
            ),
            (
                {"stat": "fail", "code": 105, "message": "Service unavailable"},
                200,
                StorageError,
                "may work later",
            ),
            ({"stat": "fail", "code": 3, "message": "Bad search"}, 200, SourceRefused, "says: Bad search"),
            ({}, 429, SourceRefused, "3600 requests an hour"),
            ({"photos": {"pages": 0, "photo": []}, "stat": "ok"}, 200, EmptyDataset, "found no picture"),
        ],
    )
    def test_a_refusal_is_told_in_words(
        self, site: Site, tmp_path: Path, body: Any, status: int, error: type[PipelineError], match: str
    ) -> None:
        site.answers["/services/rest/"] = says(body, status=status)
        with pytest.raises(error, match=match) as caught:
            fetch(site, tmp_path, "flickr")
        assert "KEY" not in str(caught.value)


def google(site: Site) -> Answer:
    def answer(handler: SiteHandler) -> None:
        asked = query(handler)
        assert (asked["key"], asked["cx"], asked["searchType"]) == ("KEY", "engine", "image")
        start = int(asked["start"])
        numbers = range(10) if start == 1 else range(10, 13)
        items = [
            {"link": site.url(f"/good/{n}.png"), "image": {"contextLink": f"https://p/{n}"}} for n in numbers
        ]
        queries = {"request": [{}], **({"nextPage": [{"startIndex": 11}]} if start == 1 else {})}
        says({"kind": "customsearch#search", "queries": queries, "items": items})(handler)

    return answer


class TestGoogle:
    SECTION = {"engine": "engine", "queries": {"ant": "ant", "bee": "bee"}, "limit_per_class": 13}

    def test_pages_are_followed_and_its_end_is_told(self, site: Site, tmp_path: Path) -> None:
        site.answers["/customsearch/v1"] = google(site)
        rows, result = fetch(site, tmp_path, "google_custom_search", **self.SECTION)
        assert [row.label for row in rows] == ["ant"] * 13 + ["bee"] * 13
        assert rows[0].provenance.page_url == "https://p/0"
        statements = FetchIndex(storage_in(tmp_path), [result.index]).head().statements
        assert "1 January 2027" in statements[0]

    @pytest.mark.parametrize(
        ("status", "message", "reason", "error", "match"),
        [
            (
                400,
                "API key not valid. Please pass a valid API key.",
                "badRequest",
                SourceRefused,
                "valid key into the password",
            ),
            (
                403,
                "Daily Limit Exceeded",
                "dailyLimitExceeded",
                SourceRefused,
                "quota is used up.*100 free searches.*1 January 2027",
            ),
            (429, "Quota exceeded", "rateLimitExceeded", SourceRefused, "quota is used up"),
            (403, "This project does not have the access", "forbidden", SourceRefused, "no new customers"),
            (500, "backend", "backendError", StorageError, "may work later"),
        ],
    )
    def test_a_refusal_is_told_in_words(
        self,
        site: Site,
        tmp_path: Path,
        status: int,
        message: str,
        reason: str,
        error: type[PipelineError],
        match: str,
    ) -> None:
        body = {"error": {"code": status, "message": message, "errors": [{"reason": reason}]}}
        site.answers["/customsearch/v1"] = says(body, status=status)
        with pytest.raises(error, match=match) as caught:
            fetch(site, tmp_path, "google_custom_search", **self.SECTION)
        assert "KEY" not in str(caught.value)

    def test_nothing_found_is_told(self, site: Site, tmp_path: Path) -> None:
        site.answers["/customsearch/v1"] = says({"queries": {}})
        with pytest.raises(EmptyDataset, match="found no picture for 'ant'"):
            fetch(site, tmp_path, "google_custom_search", **self.SECTION)


class TestKeys:
    def test_a_missing_connection_says_how_to_make_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from pipeline.datasets.sources.secrets import find_secret

        with pytest.raises(ConfigError, match="AIRFLOW_CONN_FLICKR_DEFAULT="):
            find_secret("flickr_default")
        monkeypatch.setenv("AIRFLOW_CONN_FLICKR_DEFAULT", '{"conn_type": "http", "password": "K1"}')
        assert find_secret("flickr_default") == "K1"
        monkeypatch.setenv("AIRFLOW_CONN_FLICKR_DEFAULT", "http://:K%2F2@flickr")
        assert find_secret("flickr_default") == "K/2"


class TestLicences:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("CC BY-SA 4.0", "CC BY-SA 4.0"),
            ("by", "CC BY"),
            ("cc-by-nc-sa-3.0", "CC BY-NC-SA 3.0"),
            ("CC0", "CC0 1.0"),
            ("CC BY 2.0", "CC BY 2.0"),
            ("Public domain", "Public Domain Mark 1.0"),
            ("pdm", "Public Domain Mark 1.0"),
            *((text, None) for text in ("GFDL", "Fair use", "", "CC BY-SA and GFDL", "cc", "by-by")),
        ],
    )
    def test_are_known_however_they_are_spelt(self, text: str, name: str | None) -> None:
        license = parse_license(text)
        assert (license and license.name) == name

    @given(st.text(max_size=60))
    def test_no_text_is_too_odd(self, text: str) -> None:
        license = parse_license(text)
        assert license is None or parse_license(license.name) == license

    @given(st.text(max_size=100))
    def test_no_html_of_a_creator_leaves_a_tag(self, text: str) -> None:
        assert "<script" not in (plain_text(f"<script>{text}</script><b>x</b>") or "")
