from __future__ import annotations

import io
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from hypothesis import given, settings, strategies as st

from pipeline.config import FetchConfig
from pipeline.datasets.fetcher import FetchPolicy, HttpClient, PictureFetcher, Validators, public_url
from pipeline.datasets.fetcher.addresses import find_addresses, is_public, split_url
from pipeline.datasets.fetcher.hosts import HostTable, parse_retry_after
from pipeline.datasets.fetcher.picture import opts_out
from pipeline.datasets.fetcher.policy import parse_allowed
from pipeline.datasets.fetcher.robots import Robots, parse_robots
from pipeline.errors import ConfigError, FetchRefused
from tests.fakes.pictures import noise, png
from tests.fakes.site import Site, redirect, site_running

PRIVATE = """
127.0.0.1 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 240.0.0.1 192.0.0.1
255.255.255.255 198.18.0.1 :: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::1
2002:7f00:1:: 2002:c0a8:101::1 fe80::1 fe80::1%eth0 fec0::1 fc00::1 ff02::1 2001:db8::1 ::127.0.0.1 none
192.0.0.8 192.0.0.9 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.175.48.1 198.51.100.1 203.0.113.1
::ffff:192.88.99.1 64:ff9b::c058:6301 100::1 100:0:0:1::1 2001:0:7f00:1:: 2001:1::1 2001:2::1 2001:3::1
2001:4:112::1 2001:20::1 2001:30::1 2002:5db8:d822:: 2620:4f:8000::1 3fff::1 3fff:fff:: 5f00::1 ::5db8:d822
::ffff:0:7f00:1 ::ffff:0:5db8:d822 ::fffe:7f00:1 1000::1 4000::1 c000::1 2606:2800:220:1:0:5efe:7f00:1
2606:2800:220:1:200:5efe:a00:1
""".split()
FAST = FetchPolicy(config=FetchConfig(requests_per_second=1000), retry_after_cap=0.2)


@pytest.fixture
def site() -> Iterator[Site]:
    with site_running() as running:
        yield running


def opened(site: Site) -> FetchPolicy:
    return replace(FAST, allowed=parse_allowed(site.host))


class TestAddresses:
    @pytest.mark.parametrize("address", PRIVATE)
    def test_private_ones_are_refused_however_they_are_wrapped(self, address: str) -> None:
        assert not is_public(address)
        with pytest.raises(FetchRefused, match="no public address") as caught:
            find_addresses("innocent.example", 80, FAST, lambda host, port: [address])
        assert caught.value.reason == "private_address"

    @pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
    def test_public_ones_pass(self, address: str) -> None:
        assert find_addresses("example.org", 443, FAST, lambda host, port: [address]) == [address]

    def test_one_private_answer_among_public_ones_is_enough(self) -> None:
        with pytest.raises(FetchRefused, match="10.0.0.1"):
            find_addresses("example.org", 80, FAST, lambda host, port: ["93.184.216.34", "10.0.0.1"])

    @given(st.ip_addresses())
    def test_no_address_is_too_odd(self, address: object) -> None:
        assert is_public(str(address)) in (True, False)

    def test_an_answer_that_changes_cannot_slip_in(self, site: Site) -> None:
        answers = iter([["192.0.2.1"], ["127.0.0.1"], ["10.0.0.1"]])
        with HttpClient(FAST, resolve=lambda host, port: next(answers)) as client:
            for _ in range(3):  # each connection asks once, and is checked by the answer that it uses
                with pytest.raises(FetchRefused) as caught, client.open("http://rebind.example/a.png"):
                    pass
                assert caught.value.reason == "private_address"
        assert site.requests.total() == 0

    def test_the_connection_goes_to_the_address_that_was_checked(self, site: Site) -> None:
        site.add("/a.png", png(noise(1)))
        resolved: list[str] = []

        def resolve(host: str, port: int) -> list[str]:
            resolved.append(host)
            return ["127.0.0.1"]

        port = site.server_address[1]
        policy = replace(FAST, allowed=frozenset({("named.example", port)}))
        with HttpClient(policy, resolve=resolve) as client:
            for _ in range(3):
                with client.open(f"http://named.example:{port}/a.png") as response:
                    assert response.content
        assert resolved == ["named.example"]  # once a connection, which is kept
        assert site.headers_of["/a.png"]["Host"] == f"named.example:{port}"


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        ["", "/a", "file:///etc/passwd", "ftp://a/b", "http://", "http://a:0/", "http://a:99999/",
         "http://a b/", "http://a\\@b/", "javascript:alert(1)", "http://[::1", "http://a/\n",
         "http://" + "a" * 5000],
    )  # fmt: skip
    def test_what_is_no_web_address_is_refused(self, url: str) -> None:
        with pytest.raises(FetchRefused) as caught:
            split_url(url)
        assert caught.value.reason == "bad_url"

    @given(st.text(max_size=60))
    def test_any_text_is_an_address_or_refused(self, text: str) -> None:
        for url in (text, f"http://{text}", f"http://example.org/{text}"):
            try:
                assert split_url(url).hostname
            except FetchRefused as error:
                reason = error.reason
                assert reason == "bad_url"

    @given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=60))
    @settings(max_examples=60)
    def test_no_text_makes_a_request_fail_otherwise_than_by_a_reason(self, text: str) -> None:
        with HttpClient(FAST, resolve=lambda host, port: ["127.0.0.1"]) as client:
            with pytest.raises(FetchRefused) as caught, client.open(f"http://{text}"):
                pass
            assert caught.value.reason in ("bad_url", "private_address", "port_not_allowed", "unknown_host")

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("https://me:secret@host/a?b=1", "https://host/a?b=1"),
            ("https://host/a?key=K&q=cat", "https://host/a?q=cat"),
            ("https://host/a?q=x&api_key=K", "https://host/a?q=x"),
            ("gs://bucket/a", "gs://bucket/a"),
        ],
    )
    def test_secrets_are_not_shown(self, url: str, shown: str) -> None:
        assert public_url(url) == shown

    def test_opened_places_are_pairs(self) -> None:
        assert parse_allowed("Host:8080, [::1]:9") == {("host", 8080), ("::1", 9)}
        for text in ("host", "host:x", ":80", "host:0"):
            with pytest.raises(ConfigError, match="host:port"):
                parse_allowed(text)


class TestAuthorization:
    SECRET = {"Authorization": "Bearer secret", "Accept": "image/png"}

    def open(self, site: Site, other: Site) -> None:
        policy = replace(FAST, allowed=parse_allowed(f"{site.host},{other.host}"))
        with HttpClient(policy) as client, client.open(site.url("/start"), headers=self.SECRET):
            pass

    def test_it_follows_a_redirect_on_the_same_host(self, site: Site) -> None:
        site.add("/end", b"")
        site.add_answer("/start", redirect("/end"))
        self.open(site, site)
        assert site.headers_of["/end"]["Authorization"] == "Bearer secret"

    def test_it_does_not_follow_one_to_another_host_nor_back(self, site: Site) -> None:
        site.add("/end", b"")
        with site_running() as other:
            site.add_answer("/start", redirect(other.url("/middle")))
            other.add_answer("/middle", redirect(site.url("/end")))
            self.open(site, other)
            assert site.headers_of["/start"]["Authorization"] == "Bearer secret"
            assert "Authorization" not in other.headers_of["/middle"]
            assert other.headers_of["/middle"]["Accept"] == "image/png"
            assert "Authorization" not in site.headers_of["/end"]


class TestPace:
    @given(st.text(max_size=40))
    def test_no_retry_after_is_too_odd(self, text: str) -> None:
        seconds = parse_retry_after(text)
        assert seconds is None or isinstance(seconds, float)

    def test_both_forms_are_read(self) -> None:
        assert parse_retry_after("7") == 7
        past = parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT")
        assert past is not None and past < 0  # noqa: PT018
        assert parse_retry_after("soon") is None

    def test_a_pause_is_at_most_the_cap(self) -> None:
        waited: list[float] = []
        hosts = HostTable(1000, retry_after_cap=60, sleep=waited.append)
        hosts.pause("host", "86400", attempt=0)
        hosts.wait_turn("host")
        assert 59 < waited[0] < 61

    def test_requests_of_a_host_keep_their_distance_others_do_not_wait(self) -> None:
        waited: list[float] = []
        hosts = HostTable(10, sleep=waited.append)
        for name in ("a", "a", "a", "b"):
            hosts.wait_turn(name)
        assert [round(seconds, 1) for seconds in waited] == [0.1, 0.2]

    def test_a_host_that_fails_all_the_time_is_left_alone(self) -> None:
        hosts = HostTable(1000, sleep=lambda seconds: None)
        for _ in range(10):
            hosts.note("dead", failed=True)
        with pytest.raises(FetchRefused) as caught:
            hosts.wait_turn("dead")
        assert caught.value.reason == "host_given_up"


class TestRobots:
    @pytest.mark.parametrize(
        ("text", "path", "allowed"),
        [
            ("User-agent: *\nDisallow: /*.gif$\nAllow: /pub/", "/x/a.gif", False),
            ("User-agent: *\nDisallow: /*.gif$\nAllow: /pub/", "/a.gif?x", True),
            ("User-agent: *\nDisallow: /", "/a", False),
            ("User-agent: *\nDisallow:", "/a", True),
            ("User-agent: other\nDisallow: /", "/a", True),
            ("User-agent: graft\nDisallow: /a\n\nUser-agent: *\nDisallow: /", "/b", True),
            ("User-agent: *\nDisallow: /a\nAllow: /a/b", "/a/b/c", True),
            ("nonsense \x00 \xff", "/a", True),
        ],
    )
    def test_wildcards_and_the_longest_rule_decide(self, text: str, path: str, allowed: bool) -> None:
        assert parse_robots(text).can_fetch(f"http://h{path}", "graft") is allowed

    @given(st.text(max_size=200), st.text(string.printable, max_size=30))
    def test_no_text_is_too_odd(self, text: str, path: str) -> None:
        assert parse_robots(text).can_fetch(f"http://h/{path}", "graft") in (True, False)

    @pytest.mark.parametrize(
        ("status", "body", "allowed"),
        [
            (404, b"", True),
            (401, b"", True),
            (500, b"", False),
            (200, b"User-agent: *\nDisallow: /p", False),
            (200, b"User-agent: *\nDisallow: /p\n" + b"#" * 600_000, False),
            (200, b"User-agent: *\nDisallow: /q", True),
        ],
    )
    def test_status_decides_where_there_is_no_text(
        self, site: Site, status: int, body: bytes, allowed: bool
    ) -> None:
        site.add("/robots.txt", body, status=status, type="text/plain")
        with HttpClient(opened(site)) as client:
            robots = Robots(client)
            for _ in range(2):
                if allowed:
                    robots.check(site.url("/p.png"))
                else:
                    with pytest.raises(FetchRefused) as caught:
                        robots.check(site.url("/p.png"))
                    assert caught.value.reason == "robots_disallowed"
        assert site.requests["/robots.txt"] in (1, 3)  # read once; a 5xx three times

    def test_a_picture_behind_a_redirect_obeys_the_robots_of_its_own_place(
        self, site: Site, tmp_path: Path
    ) -> None:
        site.add("/robots.txt", b"User-agent: *\nDisallow: /secret", type="text/plain")
        site.add("/secret/a.png", png(noise(1)))
        site.add_answer("/a.png", redirect("/secret/a.png"))
        with HttpClient(opened(site)) as client:
            fetcher = PictureFetcher(
                client, keep=lambda data: "x", parts=tmp_path, check_robots=Robots(client).check
            )
            with pytest.raises(FetchRefused) as caught:
                fetcher.fetch(site.url("/a.png"), validators=Validators(), obeys_robots=True)
            assert caught.value.reason == "robots_disallowed"
        assert site.requests["/secret/a.png"] == 0

    @given(st.text(max_size=80))
    def test_no_opt_out_header_is_too_odd(self, text: str) -> None:
        assert opts_out(text) in (True, False)

    @pytest.mark.parametrize(
        ("header", "out"),
        [
            ("noai", True),
            ("all, NOIMAGEAI", True),
            ("graft: noindex", True),
            ("bot: noindex", False),
            ("", False),
        ],
    )
    def test_opt_outs_are_for_all_or_for_us(self, header: str, out: bool) -> None:
        assert opts_out(header) is out


class TestPictures:
    def fetcher(self, site: Site, tmp_path: Path, kept: list[bytes]) -> tuple[HttpClient, PictureFetcher]:
        client = HttpClient(opened(site))

        def keep(data: bytes) -> str:
            kept.append(data)
            return "kept"

        return client, PictureFetcher(client, keep=keep, parts=tmp_path)

    def test_an_unchanged_one_is_not_sent_again(self, site: Site, tmp_path: Path) -> None:
        url = site.add("/a.png", png(noise(1)))
        client, fetcher = self.fetcher(site, tmp_path, [])
        with client:
            first = fetcher.fetch(url, validators=Validators())
            again = fetcher.fetch(url, validators=first.validators)
        assert (first.kept, again.kept, again.num_bytes) == ("kept", None, 0)
        assert site.bodies["/a.png"] == 1

    def test_one_that_broke_off_goes_on_where_it_was(self, site: Site, tmp_path: Path) -> None:
        body = png(noise(3, 500))
        ranges: list[str] = []

        def answer(handler: object) -> None:
            start = handler.headers.get("Range")  # type: ignore[attr-defined]
            if start is None:
                handler.give(body[: len(body) - 1000], ETag='"e"', Content_Length=str(len(body)))  # type: ignore[attr-defined]
                handler.close_connection = True  # type: ignore[attr-defined]
                return
            ranges.append(f"{start} {handler.headers['If-Range']}")  # type: ignore[attr-defined]
            first = int(start.removeprefix("bytes=").rstrip("-"))
            handler.give(  # type: ignore[attr-defined]
                body[first:],
                status=206,
                ETag='"e"',
                Content_Range=f"bytes {first}-{len(body) - 1}/{len(body)}",
            )

        kept: list[bytes] = []
        client, fetcher = self.fetcher(site, tmp_path, kept)
        with client:
            fetcher.fetch(site.add_answer("/big.png", answer), validators=Validators())
        assert kept == [body]
        assert ranges == [f'bytes={len(body) - 1000}- "e"']
        assert list(tmp_path.iterdir()) == []

    def test_who_asks_and_how_to_reach_them_is_said(self, site: Site, tmp_path: Path) -> None:
        url = site.add("/a.png", png(noise(1)))
        policy = replace(opened(site), contact="mailto:me@example.org\r\nX: y")
        with HttpClient(policy) as client:
            PictureFetcher(client, keep=lambda data: "x", parts=tmp_path).fetch(url, validators=Validators())
        sent = site.headers_of["/a.png"]
        assert sent["User-Agent"].startswith("graft/")
        assert "(+mailto:me@example.org" in sent["User-Agent"]
        assert sent["Accept-Encoding"] == "identity"
        assert "X" not in sent

    def test_a_redirect_from_https_is_not_followed_to_http(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answer = requests.Response()
        answer.status_code, answer.raw = 302, io.BytesIO()
        answer.headers["location"] = "http://example.org/a.png"
        with HttpClient(FAST) as client:
            monkeypatch.setattr(client, "_send", lambda *arguments: answer)
            with pytest.raises(FetchRefused, match="is not followed") as caught:
                client.get_text("https://example.org/a.png")
        assert caught.value.reason == "bad_redirect"
