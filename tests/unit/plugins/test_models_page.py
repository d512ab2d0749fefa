"""The page *Models*: the last comparison as it was written, a new one, and its choice put into the YAML."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import DagNotFound
from axe_playwright_python.sync_playwright import Axe

from pipeline.artifacts.model_comparison import ModelComparison
from pipeline.compare.written_choice import keep_section
from pipeline.config import Settings, read_classifier
from pipeline.report.model_comparison import write_comparison_page
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.comparison import compared_option
from tests.fakes.served_pages import open_page, serve, start_chromium

PAGE = f"/classifiers/{NAME}/models"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "yaml" / f"{NAME}.yaml"
    path.parent.mkdir()
    path.write_text(f"name: {NAME}  # mine\ndataset: {{source: {{type: sample}}}}\nmodel: {{epochs: 3}}\n")
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(path.parent))
    return path


def write_comparison(pages: Pages, file: Path, chosen: str, **changes: Any) -> str:
    """Leave a comparison of the present model with another one; return the `model` section of the choice."""
    present = compared_option("present", 0.3, parameters={})
    other = compared_option("other", 0.2, parameters={"model.head.type": "logistic"} | changes)
    comparison = ModelComparison(
        classifier=NAME,
        dataset_version="d_1",
        created_at="2026-11-27T12:00:00+00:00",
        pictures=40,
        folds=5,
        options=(other, present),
        chosen=chosen,
        recommendation=f"Take {chosen}.",
        optimism=0.0,
        model=read_classifier(file).to_dict()["model"],
    )
    workspace = pages.fleet.workspace
    comparison.write(workspace.storage, workspace.classifier(NAME).comparison)
    section = keep_section(workspace, comparison, Settings())
    write_comparison_page(workspace, comparison, section)
    return section


def shown_choice(pages: Pages) -> dict[str, str]:
    return dict(re.findall(r'name="(token|choice)" value="([^"]+)"', pages.get(PAGE).text))


class TestLooking:
    def test_the_last_comparison_is_linked_and_shown_with_the_yaml_of_its_choice(
        self, pages: Pages, file: Path
    ) -> None:
        section = write_comparison(pages, file, "other")
        pages.sign_in("viewer")
        answer = pages.get(PAGE)
        assert answer.status_code == 200
        assert f"<pre>{section}</pre>" in answer.text
        assert f'/classifiers/{NAME}">{NAME}</a>' in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; img-src data:;")
        assert PAGE in pages.get(f"/classifiers/{NAME}").text

    def test_without_one_the_command_is_told(self, pages: Pages) -> None:
        pages.sign_in("viewer")
        answer = pages.get(PAGE)
        assert answer.status_code == 404
        assert f"graft compare {NAME}" in answer.text
        assert PAGE not in pages.get(f"/classifiers/{NAME}").text

    def test_it_is_for_those_who_may_see_the_classifier(self, pages: Pages, file: Path) -> None:
        write_comparison(pages, file, "other")
        assert pages.get(PAGE).status_code == 401

    @pytest.mark.parametrize(("role", "chosen"), [("viewer", "other"), ("user", "present")])
    def test_who_may_not_write_and_what_needs_no_writing_get_no_button(
        self, pages: Pages, file: Path, role: str, chosen: str
    ) -> None:
        write_comparison(pages, file, "other")
        write_comparison(pages, file, chosen)
        pages.sign_in(role)
        assert "<form" not in pages.get(PAGE).text


class TestWriting:
    def test_the_choice_goes_into_the_yaml_and_other_lines_stay(self, pages: Pages, file: Path) -> None:
        section = write_comparison(pages, file, "other")
        pages.sign_in("user")
        answer = pages.post("models/write", shown_choice(pages))
        assert answer.status_code == 303
        assert "recommended model now" in pages.get(answer.headers["location"]).text
        text = file.read_text()
        assert text.startswith(f"name: {NAME}  # mine\n")
        assert text.endswith(section)

    def test_a_choice_that_is_no_longer_the_last_one_is_refused(self, pages: Pages, file: Path) -> None:
        write_comparison(pages, file, "other")
        pages.sign_in("user")
        shown, before = shown_choice(pages), file.read_text()
        write_comparison(pages, file, "other", **{"model.epochs": 9})
        assert pages.post("models/write", shown).status_code == 409
        assert file.read_text() == before

    def test_a_yaml_that_was_changed_meanwhile_stays(self, pages: Pages, file: Path) -> None:
        write_comparison(pages, file, "other")
        pages.sign_in("user")
        shown = shown_choice(pages)
        file.write_text(file.read_text().replace("epochs: 3", "epochs: 4"))
        answer = pages.post("models/write", shown)
        assert answer.status_code == 400
        assert "is not the one that was compared" in answer.text
        assert read_classifier(file).model.epochs == 4

    def test_a_viewer_and_a_foreign_page_write_nothing(self, pages: Pages, file: Path) -> None:
        write_comparison(pages, file, "other")
        pages.sign_in("user")
        shown, before = shown_choice(pages), file.read_text()
        foreign = pages.post("models/write", shown, headers={"sec-fetch-site": "cross-site"})
        pages.sign_in("viewer")
        assert (foreign.status_code, pages.post("models/write", shown).status_code) == (403, 403)
        assert file.read_text() == before


class TestComparing:
    def test_the_button_starts_the_dag_in_the_persons_name(
        self, pages: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Any] = []

        def trigger_dag(name: str, **arguments: Any) -> Any:
            asked.append((name, arguments["conf"], arguments["triggering_user_name"]))
            return SimpleNamespace(run_id="manual__1")

        monkeypatch.setattr("graft.ui.run_actions.trigger_dag", trigger_dag)
        pages.sign_in("user")
        assert "Compare models</button>" in pages.get(f"/classifiers/{NAME}").text
        answer = pages.post("models/compare", {"token": pages.token()})
        assert answer.status_code == 303
        assert asked == [("model_comparison", {"classifier": NAME}, "ann")]
        assert "The comparison has started" in pages.get(answer.headers["location"]).text

    def test_an_airflow_without_the_dag_is_told_the_command(
        self, pages: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def trigger_dag(name: str, **_: Any) -> Any:
            raise DagNotFound(name)

        monkeypatch.setattr("graft.ui.run_actions.trigger_dag", trigger_dag)
        pages.sign_in("user")
        answer = pages.post("models/compare", {"token": pages.token()})
        assert answer.status_code == 404
        assert f"graft compare {NAME}" in answer.text

    def test_a_viewer_starts_nothing(self, pages: Pages) -> None:
        pages.sign_in("viewer")
        assert "Compare models" not in pages.get(f"/classifiers/{NAME}").text
        assert pages.post("models/compare", {"token": "x"}).status_code == 403


def test_the_button_of_the_page_works_in_a_browser_and_the_page_is_accessible(
    pages: Pages, file: Path
) -> None:
    write_comparison(pages, file, "other")
    pages.sign_in("user")
    complaints: list[str] = []
    with start_chromium() as chromium, serve(pages.app) as address:
        page = open_page(chromium, complaints)
        page.set_viewport_size({"width": 390, "height": 800})
        page.goto(f"{address}{PAGE}")
        found = Axe().run(page).response["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.get_by_role("button", name="Put the choice into the YAML").click()
        page.get_by_text("The YAML has the recommended model now").wait_for()
    assert read_classifier(file).model.head.kind == "logistic"
    assert complaints == []
