"""Demo pages: one classifier for whoever has a link, and nothing else."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from pipeline.errors import PlatformUnavailable, StorageError
from pipeline.pages.demo import MAX_LINKS, LinkQuota, create_link, find_link, list_links
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.pages import WORKSPACE
from tests.fakes.pictures import encode

DEMO = f"/demo/{NAME}"
OTHER = "classifier_01"
SAME_SITE = {"origin": "http://airflow.test"}


@pytest.fixture(autouse=True)
def quota(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds of the quota's clock; nothing is used up in it yet."""
    seconds = [0.0]
    monkeypatch.setattr("graft.ui.demo_pages.QUOTA", LinkQuota(clock=lambda: seconds[0]))
    return seconds


@pytest.fixture
def key(pages: Pages) -> str:
    """The key of a new link; nobody is signed in any more."""
    address = make_link(pages)
    sign_out(pages)
    return address.partition("#")[2]


def make_link(pages: Pages, label: str = "fair") -> str:
    pages.engine.ensure_model(NAME)
    pages.engine.create_version(NAME, {"name": "v_1", "deploymentUri": "gs://graft/x"})
    pages.engine.answer = lambda version, instance: {
        **{"label": "bee", "score": 0.7, "novelty": 0.5, "outputs": [0.1, 0.7, 0.2]},
        **{"features": [1, 2], "activation": [[0.0, 1.0], [0.5, 0.0]]},
    }
    labels = f"{WORKSPACE}/models/{NAME}/v_1/graft/labels.json"
    pages.fleet.storage.write_json(labels, ["ant", "bee", '"><wasp>'])
    pages.sign_in("user", name="bob")
    answer = pages.post("demo", {"token": pages.token(), "label": label})
    found = re.search(r'id="new-link">([^<]+)<', answer.text)
    assert found
    return found[1]


def sign_out(pages: Pages) -> None:
    del pages.app.dependency_overrides[pages._get_user]


def open_demo(pages: Pages, key: str, name: str = NAME, **arguments: Any) -> Any:
    return pages.client.post(f"/demo/{name}/open", data={"key": key}, headers=SAME_SITE, **arguments)


def ask(pages: Pages, name: str = NAME, headers: dict[str, str] = SAME_SITE) -> Any:
    files = {"picture": ("x.png", encode(Image.new("RGB", (64, 48), "red"), "PNG"), "image/png")}
    return pages.client.post(f"/demo/{name}", files=files, headers=headers)


class TestVisitors:
    def test_a_link_opens_the_page_and_asks_without_signing_in(self, pages: Pages, key: str) -> None:
        page = pages.get(DEMO)
        assert (page.status_code, "data-demo" in page.text, "data-drop" in page.text) == (200, True, False)
        opened = open_demo(pages, key)
        assert (opened.status_code, opened.headers["location"]) == (303, DEMO)
        cookie = opened.headers["set-cookie"].lower()
        assert all(word in cookie for word in ("httponly", "samesite=strict", f"path={DEMO}"))
        assert f'action="{DEMO}" data-drop' in pages.get(DEMO).text
        answer = ask(pages)
        assert answer.status_code == 200
        assert re.findall(r'<meter[^>]* value="([\d.]+)"', answer.text) == ["0.7000", "0.2000", "0.1000"]
        assert "<wasp>" not in answer.text

    def test_it_reaches_nothing_else(self, pages: Pages, key: str) -> None:
        open_demo(pages, key)
        text = pages.get(DEMO).text + ask(pages).text
        addresses = set(re.findall(r'(?:href|src|action)="(/[^"]*)"', text))
        assert {each for each in addresses if not each.startswith("/demo/static/")} == {DEMO}
        assert all(pages.get(each).status_code == 200 for each in addresses)
        for path in ("/", f"/classifiers/{NAME}", f"/classifiers/{NAME}/try", "/static/pages.js"):
            assert pages.client.get(path, headers={"cookie": f"graft_demo={key}"}).status_code == 401
        assert pages.get("/demo/").status_code == 404

    def test_one_of_another_classifier_or_made_up_is_404(self, pages: Pages, key: str) -> None:
        forged = key[:-1] + ("A" if key[-1] != "A" else "B")
        for wrong in ("", forged, f"{key}x", key.partition(".")[0], "../" + key, "0" * 16 + key[16:]):
            answer = open_demo(pages, wrong)
            assert (answer.status_code, "set-cookie" in answer.headers) == (404, False), wrong
            assert key not in answer.text
        assert open_demo(pages, key, OTHER).status_code == 404
        assert pages.get(f"/demo/{OTHER}").text == pages.get(DEMO).text.replace(NAME, OTHER)
        pages.client.cookies.set("graft_demo", key)
        assert pages.get(f"/demo/{OTHER}").status_code == ask(pages, OTHER).status_code == 404
        assert ask(pages).status_code == 200

    def test_a_revoked_one_is_404_at_once_and_another_opens_the_page_again(
        self, pages: Pages, key: str
    ) -> None:
        open_demo(pages, key)
        pages.sign_in("user")
        [link] = list_links(pages.fleet.cache, NAME)
        answer = pages.post("demo", {"token": pages.token(), "revoke": link.id})
        assert (answer.status_code, answer.headers["location"].endswith("/use#demo")) == (303, True)
        sign_out(pages)
        page = pages.get(DEMO)
        assert (page.status_code, "revoked" in page.text, "data-demo" in page.text) == (404, True, True)
        assert ask(pages).status_code == open_demo(pages, key).status_code == 404
        _, other = create_link(pages.fleet.cache, NAME, "x", by="bob")
        assert open_demo(pages, other).status_code == 303
        assert ask(pages).status_code == 200

    def test_a_page_of_another_site_neither_opens_nor_asks(self, pages: Pages, key: str) -> None:
        pages.client.cookies.set("graft_demo", key)
        for headers in ({"origin": "http://evil.test"}, {"sec-fetch-site": "cross-site"}):
            assert ask(pages, headers=headers).status_code == 403
            opened = pages.client.post(f"{DEMO}/open", data={"key": key}, headers=headers)
            assert opened.status_code == 403

    def test_too_many_pictures_have_to_wait(
        self, pages: Pages, key: str, quota: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRAFT_DEMO_PER_MINUTE", "2")
        _, other = create_link(pages.fleet.cache, NAME, "x", by="bob")
        open_demo(pages, key)
        assert [ask(pages).status_code for _ in range(3)] == [200, 200, 429]
        refused = ask(pages)
        assert refused.headers["retry-after"] == "30"
        assert "Try again in 30 s" in refused.text
        quota[0] += 30
        assert [ask(pages).status_code for _ in range(2)] == [200, 429]
        open_demo(pages, other)
        assert ask(pages).status_code == 200

    def test_what_is_no_picture_or_too_large_is_refused(self, pages: Pages, key: str) -> None:
        pages.client.cookies.set("graft_demo", key)
        sizes = {b"": 400, b"<script>": 422, b"x" * 7_100_000: 413}
        for data, status_code in sizes.items():
            answer = pages.client.post(DEMO, files={"picture": ("x.png", data)}, headers=SAME_SITE)
            assert answer.status_code == status_code
        assert open_demo(pages, "x" * 3000).status_code == 413

    @pytest.mark.parametrize(
        ("headers", "status_code"),
        [
            ({"content-length": "9" * 5000}, 413),
            ({"content-length": "5", "transfer-encoding": "chunked"}, 411),
            ({"content-length": "5, 5"}, 411),
            ({"content-length": "-5"}, 411),
        ],
    )
    def test_a_length_that_is_none_is_refused_before_anything_is_read(
        self, pages: Pages, key: str, headers: dict[str, str], status_code: int
    ) -> None:
        pages.client.cookies.set("graft_demo", key)
        for path in (DEMO, f"{DEMO}/open"):
            answer = pages.client.post(path, content=b"key=x", headers={**SAME_SITE, **headers})
            assert answer.status_code == status_code

    def test_a_body_of_another_type_opens_and_asks_nothing(self, pages: Pages, key: str) -> None:
        pages.client.cookies.set("graft_demo", key)
        kinds = ("application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=b")
        for kind in kinds:
            headers = {**SAME_SITE, "content-type": kind}
            asked, opened = (
                pages.client.post(path, content=f"key={key}", headers=headers)
                for path in (DEMO, f"{DEMO}/open")
            )
            assert (asked.status_code, opened.status_code in (400, 404)) == (400, True), kind
            assert "set-cookie" not in opened.headers

    def test_each_answer_has_the_policy_also_a_refusal(self, pages: Pages, key: str) -> None:
        refused = pages.client.get(DEMO, headers={"cookie": "graft_demo=x"})
        answers = [pages.get(DEMO), refused, open_demo(pages, "x"), ask(pages), pages.client.put(DEMO)]
        assert [answer.status_code for answer in answers] == [200, 404, 404, 404, 405]
        for answer in answers:
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            assert answer.headers["cache-control"] == "private, no-store"

    def test_what_is_wrong_with_the_bucket_is_not_told_to_strangers(
        self, pages: Pages, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise StorageError("cannot read gs://secret-bucket/x")

        pages.client.cookies.set("graft_demo", key)
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.pages.prediction.predict_picture", fail)
            answers = [ask(pages)]
        link = pages.fleet.workspace.classifier(NAME).demo_link(key.partition(".")[0])
        pages.fleet.storage.write_bytes(link, b"{")
        answers += [pages.get(DEMO), ask(pages), open_demo(pages, key)]
        assert [answer.status_code for answer in answers] == [502] * 4
        for answer in answers:
            assert "gs://" not in answer.text
            assert "Try later" in answer.text
        assert "cannot read gs://secret-bucket/x" in caplog.text  # those who run it are told

    def test_what_is_wrong_with_the_engine_is_not_told_to_strangers(
        self, pages: Pages, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise PlatformUnavailable("secret-host:8000 is down")

        monkeypatch.setattr(pages.engine, "predict", fail)
        pages.client.cookies.set("graft_demo", key)
        answer = ask(pages)
        assert (answer.status_code, "secret-host" in answer.text) == (502, False)


class TestOwners:
    def test_nothing_is_shared_before_somebody_makes_a_link(self, pages: Pages) -> None:
        assert open_demo(pages, "").status_code == 404
        assert ask(pages).status_code == 404
        assert list_links(pages.fleet.cache, NAME) == []

    def test_a_link_is_shown_once_and_listed_with_who_made_it(self, pages: Pages) -> None:
        address = make_link(pages, "<b>fair")
        assert re.fullmatch(rf"http://airflow\.test{DEMO}#[0-9a-f]{{16}}\.[\w-]{{43}}", address)
        page = pages.get(f"/classifiers/{NAME}/use").text
        assert "&lt;b&gt;fair, by bob" in page
        assert address.partition("#")[2] not in page

    def test_its_key_is_in_no_log_and_not_in_the_bucket(
        self, pages: Pages, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        key = make_link(pages).partition("#")[2]
        sign_out(pages)
        open_demo(pages, key)
        ask(pages)
        open_demo(pages, key + "x")
        [link] = list_links(pages.fleet.cache, NAME)
        assert f"bob made the demo link {link.id} of {NAME}" in caplog.text
        secret = key.partition(".")[2]
        assert secret not in caplog.text
        storage = pages.fleet.storage
        stored = [storage.read_bytes(uri) for uri in storage.list_uris(f"{WORKSPACE}/classifiers/{NAME}/")]
        assert any(link.key_sha256.encode() in data for data in stored)
        assert not any(secret.encode() in data for data in stored)

    def test_a_viewer_and_a_forged_form_neither_make_nor_revoke_one(self, pages: Pages, key: str) -> None:
        pages.sign_in("user")
        token, [link] = pages.token(), list_links(pages.fleet.cache, NAME)
        forms: list[dict[str, str]] = [{"label": "x"}, {"revoke": link.id}]
        for form in forms:
            assert pages.post("demo", {"token": "forged", **form}).status_code == 403
            foreign = pages.post("demo", {"token": token, **form}, headers={"origin": "http://evil.test"})
            assert foreign.status_code == 403
        pages.sign_in("viewer")
        assert "demo" not in pages.get(f"/classifiers/{NAME}/use").text
        assert [pages.post("demo", {"token": token, **form}).status_code for form in forms] == [403, 403]
        sign_out(pages)
        assert [pages.post("demo", form).status_code for form in forms] == [401, 401]
        assert list_links(pages.fleet.cache, NAME) == [link]

    def test_a_setting_forbids_them_also_those_that_were_made(
        self, pages: Pages, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRAFT_DEMO_PER_MINUTE", "0")
        pages.client.cookies.set("graft_demo", key)
        assert (
            pages.get(DEMO).status_code == ask(pages).status_code == open_demo(pages, key).status_code == 404
        )
        pages.sign_in("user")
        token = pages.token()
        assert "switched off" in pages.get(f"/classifiers/{NAME}/use").text
        assert pages.post("demo", {"token": token, "label": "x"}).status_code == 404
        [link] = list_links(pages.fleet.cache, NAME)
        assert pages.post("demo", {"token": token, "revoke": link.id}).status_code == 303
        assert find_link(pages.fleet.cache, NAME, key) is None

    def test_there_is_an_end_to_links(self, pages: Pages) -> None:
        for _ in range(MAX_LINKS):
            create_link(pages.fleet.cache, NAME, "x", by="bob")
        pages.sign_in("user")
        answer = pages.post("demo", {"token": pages.token(), "label": "x"})
        assert (answer.status_code, "Revoke one first" in answer.text) == (400, True)
        assert pages.post("demo", {"token": pages.token(), "revoke": "0" * 16}).status_code == 404
        assert pages.post("demo", {"token": pages.token(), "revoke": "../../x"}).status_code == 404
