"""Lists and pages on a well-behaved site, and several sources in one dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from hypothesis import given, strategies as st

from pipeline.artifacts.fetch_index import FetchedRow, FetchIndex
from pipeline.artifacts.steps import FetchResult
from pipeline.config import Classifier, FetchConfig
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.fetcher import FetchPolicy, PictureFetcher
from pipeline.datasets.fetcher.policy import parse_allowed
from pipeline.datasets.sources.html_page import parse_srcset, read_page
from pipeline.errors import ConfigError, EmptyDataset, SourceNotFound, StorageError
from pipeline.storage import Storage
from tests.fakes.pictures import folder_of, noise, png, storage_in
from tests.fakes.rows import index_rows, workspace_of
from tests.fakes.site import Site, redirect, site_running


@pytest.fixture
def site() -> Iterator[Site]:
    with site_running() as running:
        running.add_pictures(12, size=70)
        yield running


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


def fetch(
    site: Site, storage: Storage, *sources: dict[str, Any], num_chunks: int = 1, **config: Any
) -> tuple[list[FetchedRow], list[FetchResult]]:
    dataset = {"sources": [*sources]}
    policy = FetchPolicy(
        allowed=parse_allowed(site.host),
        config=FetchConfig(requests_per_second=500, concurrency=4, **config),
        retry_after_cap=0.1,
    )
    classifier = Classifier.from_dict({"name": "toys", "dataset": dataset})
    results = [
        fetch_pictures(
            workspace_of(storage),
            classifier,
            chunk=chunk,
            num_chunks=num_chunks,
            policy=policy,
        )
        for chunk in range(num_chunks)
    ]
    return index_rows(storage, *(result.index for result in results)), results


def names(rows: list[FetchedRow], label: str) -> list[str]:
    return [row.source_url.rpartition("/")[2] for row in rows if row.label == label and row.reason is None]


class TestUrlList:
    def write(self, path: Path, site: Site, *lines: str) -> dict[str, Any]:
        path.write_text("url,label\n" + "\n".join(site.url("/") + line for line in lines) + "\n")
        return {"type": "url_list", "uri": str(path)}

    def test_all_threads_of_a_fetch_share_one_core_and_others_get_theirs_back(
        self, site: Site, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetch_one, seen, before = PictureFetcher.fetch, [], os.sched_getaffinity(0)

        def watched(self: PictureFetcher, *arguments: Any, **options: Any) -> Any:
            seen.append(os.sched_getaffinity(0))
            return fetch_one(self, *arguments, **options)

        monkeypatch.setattr(PictureFetcher, "fetch", watched)
        lines = [f"good/{number}.png,cat" for number in range(8)]
        fetch(site, storage, self.write(tmp_path / "list.csv", site, *lines))
        assert len(seen) == 8
        assert {len(cores) for cores in seen} == {1}
        assert os.sched_getaffinity(0) == before

    @pytest.mark.parametrize("num_chunks", [1, 2, 3])
    def test_collection_stops_at_the_limit_whatever_fails(
        self, site: Site, storage: Storage, tmp_path: Path, num_chunks: int
    ) -> None:
        site.add_answer("/good/1.png", redirect("/photo_unavailable.png"))
        site.add("/photo_unavailable.png", png(noise(1)))
        site.add("/good/2.png", b"", status=404)
        site.add("/good/4.png", png(noise(1, 20)).ljust(2051, b"\0"))
        lines = [f"good/{number}.png,{'cat' if number < 8 else 'dog'}" for number in range(12)]
        section = self.write(tmp_path / "list.csv", site, *lines)
        rows, _ = fetch(site, storage, {**section, "limit_per_class": 3}, num_chunks=num_chunks)
        assert names(rows, "cat") == ["0.png", "3.png", "5.png"]
        assert names(rows, "dog") == ["8.png", "9.png", "10.png"]
        assert [row.reason for row in rows if row.reason] == ["placeholder", "not_found", "placeholder"]
        assert site.requests["/good/7.png"] == site.requests["/good/11.png"] == 0

    def test_text_takes_the_label_of_the_section_and_each_address_once(
        self, site: Site, storage: Storage, tmp_path: Path
    ) -> None:
        one, two = site.url("/good/1.png"), site.url("/good/2.png")
        (tmp_path / "cats.txt").write_text(f"# cats\n{one}\n\n  {two}  \n{one}\n")
        text = {"type": "url_list", "uri": str(tmp_path / "cats.txt"), "label": "cat"}
        other = self.write(tmp_path / "list.csv", site, "good/3.png,dog")
        rows, _ = fetch(site, storage, text, other)
        assert (names(rows, "cat"), names(rows, "dog")) == (["1.png", "2.png"], ["3.png"])
        assert site.requests["/good/1.png"] == 1

    def test_the_list_may_be_on_a_private_place_that_the_user_named_its_content_may_not(
        self, site: Site, storage: Storage
    ) -> None:
        listed = f"url,label\n{site.url('/good/1.png')},a\nhttp://10.0.0.1/x.png,b\n"
        site.add("/list.csv", listed.encode(), type="text/csv")
        classifier = Classifier.from_dict(
            {"name": "toys", "dataset": {"source": {"type": "url_list", "uri": site.url("/list.csv")}}}
        )
        result = fetch_pictures(workspace_of(storage), classifier, policy=FetchPolicy())
        assert result.refused == {"port_not_allowed": 1, "private_address": 1}
        assert site.requests["/good/1.png"] == 0

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("url\nhttp://a/b\n", "no label; write a CSV"),
            ("http://a/b\n", "no label"),
            ("url,label\n", "lists no address"),
            ("", "lists no address"),
            ("x" * 9000, "a line that no list"),
        ],
    )
    def test_what_is_no_list_is_named(
        self, site: Site, storage: Storage, tmp_path: Path, text: str, match: str
    ) -> None:
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises((SourceNotFound, EmptyDataset), match=match):
            fetch(site, storage, {"type": "url_list", "uri": str(tmp_path / "list.csv")}, {"type": "sample"})

    def test_secrets_of_an_address_stay_out_of_index_and_journal(
        self, site: Site, storage: Storage, tmp_path: Path
    ) -> None:
        section = self.write(tmp_path / "list.csv", site, "good/1.png?key=SECRET&w=1,a", "good/2.png,b")
        rows, results = fetch(site, storage, section)
        assert rows[0].source_url == site.url("/good/1.png?w=1")
        assert b"SECRET" not in storage.read_bytes(results[0].index)
        assert site.requests["/good/1.png?key=SECRET&w=1"] == 1


GALLERY = """
<html><head><base href="/good/"></head><body>
<nav><img src="11.png"></nav>
<main>
  <img src="0.png"> <img src="0.png#again"> <img data-src="1.png" src="data:image/gif;base64,R0lGOD">
  <img srcset="2.png 100w, 3.png 800w" src="2.png">
  <picture><source srcset="4.avif" type="image/avif"><source srcset="5.png 2x"><img src="4.png"></picture>
  <img src="javascript:alert(1)"> <img src="/small.png"> <img src="/private/6.png">
</main>
<a href="/two.html">more</a> <a href="http://elsewhere.example/">away</a> <a href="/gone.html">gone</a>
</body></html>
"""


class TestWebPage:
    SECTION = {"type": "web_page", "label": "cat"}

    @pytest.fixture(autouse=True)
    def gallery(self, site: Site) -> None:
        site.add("/index.html", GALLERY.encode(), type="text/html")
        site.add("/two.html", b'<img src="/good/7.png"><a href="/index.html">back</a>', type="text/html")
        site.add("/small.png", png(noise(1, 30)))
        site.add("/private/6.png", png(noise(6, 70)))
        site.add("/robots.txt", b"User-agent: *\nDisallow: /*rivate", type="text/plain")

    def fetch(self, site: Site, storage: Storage, **section: Any) -> tuple[list[FetchedRow], FetchResult]:
        page = {**self.SECTION, "uri": site.url("/index.html"), **section}
        rows, results = fetch(site, storage, page, {"type": "sample", "classes": ["brick"]})
        return rows, results[0]

    def test_its_pictures_are_found_in_the_largest_size(self, site: Site, storage: Storage) -> None:
        rows, result = self.fetch(site, storage, exclude="nav")
        assert names(rows, "cat") == ["0.png", "1.png", "3.png", "5.png"]
        assert result.refused == {"robots_disallowed": 1, "too_small": 1}
        assert site.requests["/private/6.png"] == 0
        assert rows[0].provenance.page_url == site.url("/index.html")

    def test_selectors_choose(self, site: Site, storage: Storage) -> None:
        assert names(self.fetch(site, storage, include="nav")[0], "cat") == ["11.png"]
        with pytest.raises(ConfigError, match="want CSS selectors"):
            self.fetch(site, storage, include="[[")

    def test_linked_pages_are_read_on_the_same_site(self, site: Site, storage: Storage) -> None:
        rows, result = self.fetch(site, storage, depth=1, exclude="nav")
        assert "7.png" in names(rows, "cat")
        assert site.requests["/index.html"] == 1
        statements = FetchIndex(storage, [result.index]).head().statements
        assert statements == ["linked pages that could not be read: 1 not_found"]

    def test_a_second_run_transfers_no_picture(self, site: Site, storage: Storage) -> None:
        self.fetch(site, storage, exclude="nav")
        before = {path: count for path, count in site.bodies.items() if path.endswith(".png")}
        _, result = self.fetch(site, storage, exclude="nav")
        after = {path: count for path, count in site.bodies.items() if path.endswith(".png")}
        assert after == before
        assert result.refused == {"robots_disallowed": 1, "too_small": 1}
        assert result.downloaded == 0

    def test_an_opt_out_of_the_page_keeps_us_out(self, site: Site, storage: Storage) -> None:
        page = b'<meta name="robots" content="noimageai"><img src="/good/0.png">'
        site.add("/index.html", page, type="text/html")
        with pytest.raises(EmptyDataset, match="no picture was found"):
            self.fetch(site, storage)

    def test_a_page_that_robots_may_not_read_is_told(self, site: Site, storage: Storage) -> None:
        site.add("/robots.txt", b"User-agent: graft\nDisallow: /", type="text/plain")
        with pytest.raises(SourceNotFound, match=r"kept from robots by .*/robots\.txt"):
            self.fetch(site, storage)
        assert site.requests["/index.html"] == 0

    def test_a_missing_page_is_final_and_a_broken_one_transient(self, site: Site, storage: Storage) -> None:
        with pytest.raises(SourceNotFound, match=r"none\.html answered 404"):
            self.fetch(site, storage, uri=site.url("/none.html"))
        site.add("/index.html", b"", status=500)
        with pytest.raises(StorageError, match="answered 500"):
            self.fetch(site, storage)

    def test_a_private_place_must_be_opened(self, site: Site, storage: Storage) -> None:
        source = {**self.SECTION, "uri": site.url("/index.html")}
        classifier = Classifier.from_dict(
            {"name": "toys", "dataset": {"sources": [source, {"type": "sample"}]}}
        )
        with pytest.raises(SourceNotFound, match="GRAFT_FETCH_ALLOW"):
            fetch_pictures(workspace_of(storage), classifier, policy=FetchPolicy())
        assert site.requests.total() == 0

    @pytest.mark.parametrize(
        ("html", "pictures"),
        [
            ("<a href='big.jpg'><img src='thumb.jpg'></a>", ["big.jpg"]),
            (
                "<a href='/full/big.webp?size=9'><span><img src='thumb.jpg'></span></a>",
                ["/full/big.webp?size=9"],
            ),
            ("<a href='page.html'><img src='thumb.jpg'></a>", ["thumb.jpg"]),
            ("<a href='big.jpg'><img srcset='a.jpg 1x, b.jpg 2x'></a>", ["big.jpg"]),
            ("<img src='small.jpg' data-zoom-image='large.jpg' data-src='middle.jpg'>", ["large.jpg"]),
            ("<div style=\"color: red; background-image: url('a.jpg')\"></div>", ["a.jpg"]),
            ("<a href='big.jpg' style='background: #fff url(a.jpg) no-repeat'></a>", ["big.jpg"]),
            ("<section data-bg='a.jpg'></section>", ["a.jpg"]),
            ("<amp-img src='a.jpg' width=9></amp-img>", ["a.jpg"]),
            (
                "<img src='data:,x' data-src='a.jpg'><noscript><img src='a.jpg'></noscript>",
                ["a.jpg"],
            ),
            ("<noscript><img src='a.jpg'></noscript>", ["a.jpg"]),
            (
                '<script type="application/ld+json">'
                '{"@graph": [{"@type": "ImageObject", "contentUrl": "a.jpg"}]}</script>',
                ["a.jpg"],
            ),
            ("<meta property='og:image' content='/logo.png'>", ["/logo.png"]),
            ("<meta property='og:image' content='/logo.png'><img src='a.jpg'>", ["a.jpg"]),
            ("<img src='data:image/gif;base64,R0lG'><img src='a.jpg'>", ["a.jpg"]),
        ],
    )
    def test_the_largest_that_a_page_offers_is_taken(self, html: str, pictures: list[str]) -> None:
        page = read_page(html, "http://example.org/a/")
        assert page.pictures == [urljoin("http://example.org/a/", picture) for picture in pictures]

    def test_what_is_not_taken_is_counted(self, site: Site, storage: Storage) -> None:
        html = b"<meta property='og:image' content='/logo.png'><img src='/good/0.png'>"
        site.add("/index.html", html + 3 * b"<img src='data:image/gif;base64,R0lG'>", type="text/html")
        _, result = self.fetch(site, storage)
        statement = FetchIndex(storage, [result.index]).head().statements[0]
        assert "1 previews of the page (og:image), 3 without an address, or in a `data:` address" in statement

    @given(
        st.text(max_size=300), st.sampled_from(["<img src='{}'>", "<img srcset='{}'>", "<a href='{}'>", "{}"])
    )
    def test_no_page_is_too_odd(self, text: str, frame: str) -> None:
        page = read_page(frame.format(text), "http://example.org/a/")
        for url in (*page.pictures, *page.links):
            assert url.startswith(("http://", "https://"))

    @given(st.text(max_size=100))
    def test_no_srcset_is_too_odd(self, text: str) -> None:
        assert all(url and size >= 0 for url, size in parse_srcset(text))


class TestSeveralSources:
    def test_come_in_their_order_and_labels_override(
        self, site: Site, storage: Storage, tmp_path: Path
    ) -> None:
        folder = folder_of(tmp_path / "toys", {"ant": 2, "bee": 1})
        (folder / "loose.png").write_bytes(png(noise(77)))
        urls = tmp_path / "cats.txt"
        urls.write_text(site.url("/good/0.png"))
        sources = [
            {"type": "url_list", "uri": str(urls), "label": "cat"},
            {"type": "folder", "uri": str(folder)},
            {"type": "folder", "uri": str(folder), "label": "insect"},
        ]
        rows, results = fetch(site, storage, *sources, num_chunks=2)
        assert [row.label for row in rows] == ["cat", "ant", "ant", "bee", *["insect"] * 4]
        assert [row.source_type for row in rows] == ["url_list", *["folder"] * 7]
        assert len({row.position for row in rows}) == 8
        assert sum(result.found for result in results) == 8
        again, results = fetch(site, storage, *sources, num_chunks=2)
        assert again == rows
        assert sum(result.downloaded for result in results) == 0

    def test_one_class_in_each_of_two_sources_is_enough(
        self, site: Site, storage: Storage, tmp_path: Path
    ) -> None:
        folder_of(tmp_path / "one", {"ant": 1})
        folder_of(tmp_path / "two", {"bee": 1})
        sources = [{"type": "folder", "uri": str(tmp_path / name)} for name in ("one", "two")]
        assert [row.label for row in fetch(site, storage, *sources)[0]] == ["ant", "bee"]
