"""A new classifier on the pages: the form, the YAML with a look at the pictures, and the file."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.files import read_classifier
from pipeline.errors import DatasetError
from pipeline.pages.schedule import BrokenFile
from tests.fakes.airflow_pages import NAME, Pages

HOSTILE = "</textarea><script>alert(1)</script>"
TEXT = "name: toys\r\ndataset:\r\n  source: {type: uploads}\r\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GRAFT_CLASSIFIERS", "")
    return tmp_path / "home"


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The sources that were looked at."""
    seen: list[Any] = []
    preview = {
        "classes": {"ant": {"pictures": 3, "parts": {"test": 1}, "examples": [HOSTILE]}},
        "left_out": {"unlabelled": 2},
        "examined": 3,
        "unusable": {"not_an_image": ["x.png"]},
        "statements": ["a note"],
        "problems": ["a classifier needs at least two classes; found: ant"],
        "is_complete": False,
    }

    def look(classifier: Any) -> Any:
        seen.extend(classifier.dataset.all_sources)
        return preview

    monkeypatch.setattr("pipeline.preprocess.preview_process.preview_in_process", look)
    return seen


@pytest.fixture
def writer(pages: Pages, home: Path) -> Pages:
    pages.sign_in("user")
    return pages


def post(pages: Pages, path: str = "", **fields: str) -> Any:
    return pages.client.post(f"/new{path}", data={"token": pages.token(), **fields})


def text_in(page: str) -> str:
    found = re.search(r"<textarea id=.text[^>]*>(.*?)</textarea>", page, re.DOTALL)
    assert found
    return html.unescape(found[1])


class TestAccess:
    def test_only_who_may_write_comes_here(self, pages: Pages, home: Path) -> None:
        assert pages.get("/new").status_code == 401
        pages.sign_in("user")
        token = pages.token()
        pages.sign_in("viewer")
        assert pages.get("/new").status_code == 403
        assert 'href="/new"' not in pages.get("/").text
        for path in ("", "/look", "/file", "/create"):
            answer = pages.client.post(f"/new{path}", data={"token": token, "text": TEXT})
            assert answer.status_code == 403
        assert not (home / "classifiers").exists()

    def test_a_form_needs_our_token_and_our_site(self, writer: Pages, home: Path) -> None:
        fields = {"token": writer.token(), "text": TEXT}
        foreign = writer.client.post("/new/create", data=fields, headers={"origin": "http://evil.test"})
        assert foreign.status_code == 403
        assert writer.client.post("/new/create", data={**fields, "token": "x"}).status_code == 403
        assert not (home / "classifiers").exists()

    def test_the_list_leads_here(self, writer: Pages) -> None:
        assert 'href="/new"' in writer.get("/").text


class TestForm:
    def test_it_gives_the_yaml_that_a_person_would_write(self, writer: Pages, looked: list[Any]) -> None:
        answer = post(
            writer,
            name="toys",
            kind="uploads",
            test="20",
            accuracy="85",
            schedule="@weekly",
            approval="1",
            description="Ant or cat",
        )
        assert answer.status_code == 200
        assert text_in(answer.text).splitlines() == [
            "# Made on the page New classifier by ann.",
            "name: toys",
            "description: Ant or cat",
            "dataset:",
            "  source:",
            "    type: uploads",
            "gate:",
            "  min_accuracy: 0.85",
            "deploy:",
            "  require_approval: true",
            "schedule: '@weekly'",
        ]
        assert looked == []

    def test_a_place_is_looked_at(self, writer: Pages, looked: list[Any], tmp_path: Path) -> None:
        answer = post(writer, name="toys", kind="place", place=str(tmp_path), test="30", accuracy="80")
        assert [(source.type, source.uri) for source in looked] == [("folder", str(tmp_path))]
        for told in ("needs at least two classes", "unlabelled", "a note", "not_an_image", "was over"):
            assert told in answer.text
        assert "<script>alert" not in answer.text
        assert yaml.safe_load(text_in(answer.text))["dataset"]["split"] == {"test_fraction": 0.3}

    def test_a_search_has_words_for_each_class(self, writer: Pages, looked: list[Any]) -> None:
        queries = "raccoon: raccoon portrait\r\n\r\nkangaroo\r\n"
        answer = post(writer, name="toys", kind="search", search="openverse", queries=queries, limit="50")
        source = yaml.safe_load(text_in(answer.text))["dataset"]["source"]
        assert source == {
            "type": "openverse",
            "queries": {"raccoon": "raccoon portrait", "kangaroo": "kangaroo"},
            "limit_per_class": 50,
        }

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"name": "1toys"}, "<code>name</code> must be text that matches"),
            ({"kind": "place"}, "Give the path or the address"),
            ({"kind": "place", "place": "https://a.example/gallery"}, "web page"),
            ({"kind": "elsewhere"}, "Say where the pictures are"),
            ({"kind": "search"}, "nothing to search for"),
            ({"accuracy": "100"}, "from 1 to 99"),
            ({"test": "many"}, "a whole number"),
            ({"schedule": "now"}, "cron line"),
        ],
    )
    def test_wrong_answers_are_told_and_the_others_stay(
        self, writer: Pages, fields: dict[str, str], told: str
    ) -> None:
        answer = post(writer, **{"name": "toys", "description": HOSTILE, **fields})
        assert answer.status_code == 400
        assert told in html.unescape(answer.text)
        assert html.escape(HOSTILE, quote=False).replace("&#", "&#") in answer.text
        assert "<script>alert" not in answer.text


class TestYaml:
    def test_creating_it_writes_the_file_and_asks_for_pictures(self, writer: Pages, home: Path) -> None:
        answer = post(writer, "/create", text=TEXT)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/classifiers/toys/add"
        path = home / "classifiers" / "toys.yaml"
        assert path.read_text() == TEXT.replace("\r\n", "\n")
        assert read_classifier(path).name == "toys"
        assert writer.get("/classifiers/toys/add").status_code == 200

    def test_the_second_of_two_is_told_and_keeps_the_text(self, writer: Pages, home: Path) -> None:
        post(writer, "/create", text=TEXT)
        answer = post(writer, "/create", text=f"# mine\n{TEXT}")
        assert answer.status_code == 409
        assert "choose another one" in answer.text
        assert "# mine" in text_in(answer.text)
        assert "# mine" not in (home / "classifiers" / "toys.yaml").read_text()

    @pytest.mark.parametrize("text", ["", "name: [", "name: toys\n", TEXT + f"more: {HOSTILE}"])
    def test_a_wrong_one_is_told_and_not_written(self, writer: Pages, home: Path, text: str) -> None:
        for path in ("/create", "/look"):
            answer = post(writer, path, text=text)
            assert "note bad" in answer.text
            assert "<script>alert" not in answer.text
        assert not (home / "classifiers").exists()

    def test_an_edited_one_is_looked_at_again(self, writer: Pages, looked: list[Any]) -> None:
        answer = post(writer, "/look", text="name: toys\ndataset: {source: {type: sample}}")
        assert [source.type for source in looked] == ["sample"]
        assert "needs at least two classes" in answer.text

    def test_a_look_that_fails_keeps_the_text(self, writer: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> None:
            raise DatasetError("Looking took longer")

        monkeypatch.setattr("pipeline.preprocess.preview_process.preview_in_process", fail)
        answer = post(writer, "/look", text="name: toys\ndataset: {source: {type: sample}}")
        assert "Looking took longer" in answer.text
        assert "type: sample" in text_in(answer.text)

    def test_it_can_be_downloaded(self, writer: Pages) -> None:
        answer = post(writer, "/file", text=TEXT)
        assert "attachment" in answer.headers["content-disposition"]
        assert answer.text.startswith("name: toys")


class TestWaiting:
    def test_the_page_waits_until_airflow_has_read_the_file(self, writer: Pages) -> None:
        assert "data-reload" in writer.get("/new/toys").text
        answer = writer.get(f"/new/{NAME}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/classifiers/{NAME}")

    def test_a_classifier_whose_file_was_just_written_is_waited_for_and_no_error(self, writer: Pages) -> None:
        post(writer, "/create", text=TEXT)
        answer = writer.get("/classifiers/toys")
        assert (answer.status_code, "data-reload" in answer.text) == (200, True)
        assert writer.get("/classifiers/nobody").status_code == 404

    def test_what_is_left_to_do_is_a_link_on_our_own_pages(
        self, writer: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer.fleet.cache, "latest_dataset", lambda name: None)
        monkeypatch.setattr("graft.ui.pages.find_suspects", lambda *_: None)
        start = f'href="/classifiers/{NAME}#start"'
        for path in ("/pictures", "/labels", "/add"):
            assert start in writer.get(f"/classifiers/{NAME}{path}").text, path
        text = writer.get(f"/classifiers/{NAME}").text
        assert 'href="#start"' in text
        assert 'id="start"' in text
        writer.sign_in("viewer")
        for path in ("", "/pictures", "/labels", "/add"):
            assert "#start" not in writer.get(f"/classifiers/{NAME}{path}").text, path

    def test_a_file_that_airflow_cannot_read_is_told(self, writer: Pages) -> None:
        writer.broken = [BrokenFile(file="toys.yaml", error="no such key")]
        assert "no such key" in writer.get("/new/toys").text
