"""*Thresholds*: what the sliders do to a version's answers, and their way into the YAML."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from pipeline.artifacts.fold_answers import FoldAnswers
from pipeline.config import read_classifier
from pipeline.pages.thresholds import MAX_STEPS, FoldedVersion, judge_thresholds
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.model_record import lineage
from tests.fakes.served_pages import open_page, serve, start_chromium

PAGE = f"/classifiers/{NAME}/thresholds"
# Ten pictures: of six answers `cat` four are right, the surest three among them; of four `dog` three are.
ANSWERS = FoldAnswers(
    labels=np.array([0, 0, 0, 1, 0, 1, 1, 1, 0, 1]),
    predicted=np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1]),
    scores=np.array([0.99, 0.95, 0.9, 0.7, 0.6, 0.55, 0.9, 0.8, 0.7, 0.6], np.float32),
    groups=np.arange(10),
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "yaml" / f"{NAME}.yaml"
    path.parent.mkdir()
    lines = f"name: {NAME}  # mine", "dataset: {source: {type: sample}}", "serving: {reject_below: 0.3}", ""
    path.write_text("\n".join(lines))
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(path.parent))
    return path


@pytest.fixture
def judged(pages: Pages, file: Path) -> Pages:
    """A version that serves, with what its training job's cross-validation answered."""
    model = pages.fleet.workspace.model(NAME, pages.fleet.version(2))
    lineage(training_job="train_1").write(pages.fleet.storage, model.lineage)
    ANSWERS.write(pages.fleet.workspace.job("train_1"))
    pages.sign_in("user")
    return pages


def fields_of(text: str) -> dict[str, str]:
    form = text.partition("thresholds/write")[2]
    return {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)}


class TestJudging:
    def test_counts_the_answers_that_a_threshold_leaves(self) -> None:
        folded = FoldedVersion(version="v_1", lineage=lineage(), classes=["cat", "dog"], answers=ANSWERS)
        found = judge_thresholds(folded, [0.8, 0.0])
        cat, dog = found.rows
        assert (cat.precision.hits, cat.precision.total) == (3, 3)
        assert (cat.recall.hits, cat.recall.total) == (3, 5)
        assert (cat.answered.hits, cat.answered.total) == (3, 6)
        assert (dog.precision.hits, dog.precision.total) == (3, 4)
        assert (found.answered.hits, found.answered.total) == (7, 10)
        assert (found.right.hits, found.right.total) == (6, 7)
        assert found.curves["cat"][0] == (0.2, 1.0)
        assert found.curves["cat"][-1] == (0.8, pytest.approx(4 / 6))

    def test_near_duplicates_widen_the_intervals(self) -> None:
        torn = replace(ANSWERS, groups=np.array([0, 0, 0, 3, 4, 5, 6, 6, 8, 9]))
        widths = []
        for answers in (ANSWERS, torn):
            folded = FoldedVersion(version="v_1", lineage=lineage(), classes=["cat", "dog"], answers=answers)
            low, high = judge_thresholds(folded, [0, 0]).right.interval or (0, 0)
            widths.append(high - low)
        assert widths[0] < widths[1]

    def test_a_curve_of_many_answers_keeps_its_ends(self) -> None:
        scores = np.linspace(1, 0.5, 5000, dtype=np.float32)
        labels, ones = np.arange(5000) % 2, np.ones(5000, int)
        answers = FoldAnswers(labels=labels, predicted=ones, scores=scores, groups=np.arange(5000))
        folded = FoldedVersion(version="v_1", lineage=lineage(), classes=["cat", "dog"], answers=answers)
        [curve] = judge_thresholds(folded, [0.0, 0.0]).curves.values()
        assert len(curve) == MAX_STEPS
        assert (curve[0], curve[-1]) == ((0.0, 0.0), (1.0, 0.5))

    def test_a_class_that_is_never_answered_has_no_precision(self) -> None:
        folded = FoldedVersion(version="v_1", lineage=lineage(), classes=["cat", "dog"], answers=ANSWERS)
        cat = judge_thresholds(folded, [1.0, 0.0]).rows[0]
        assert (cat.precision.value, cat.precision.interval, cat.recall.value) == (None, None, 0.0)


class TestLooking:
    def test_the_sliders_begin_with_the_yaml_and_work_without_a_script(self, judged: Pages) -> None:
        text = judged.get(PAGE).text
        assert re.findall(r'name="(t\d)" .*? value="([^"]+)"', text) == [("t0", "0.3"), ("t1", "0.3")]
        assert "The YAML has these thresholds." in text
        assert "made with other thresholds" in text  # the lineage has none
        text = judged.get(f"{PAGE}?t0=0.8").text
        assert "3 of 6" in text
        assert "<b>70.0 %</b> of all pictures get a label" in text
        assert fields_of(text)["choice"] == '{"cat": 0.8}'

    def test_it_is_linked_from_the_versions(self, judged: Pages) -> None:
        judged.engine.models[NAME] = {"name": f"projects/local/models/{NAME}"}
        judged.engine.list_versions = judged.fleet.resources  # type: ignore[method-assign]
        assert f'href="{PAGE}"' in judged.get(f"/classifiers/{NAME}").text

    @pytest.mark.parametrize("value", ["2", "-0.1", "nan", "cat"])
    def test_what_is_no_probability_is_refused(self, judged: Pages, value: str) -> None:
        answer = judged.get(f"{PAGE}?t1={value}")
        assert answer.status_code == 400
        assert "A threshold is a number from 0 to 1." in answer.text

    def test_a_version_without_answers_says_why(self, judged: Pages) -> None:
        job = judged.fleet.workspace.job("train_1")
        judged.fleet.storage.delete(job.fold_answers)
        answer = judged.get(PAGE)
        assert answer.status_code == 404
        assert "has kept no answers of a cross-validation" in answer.text

    def test_it_is_for_those_who_may_see_the_classifier(self, judged: Pages) -> None:
        judged.app.dependency_overrides = {
            each: made
            for each, made in judged.app.dependency_overrides.items()
            if each.__name__ != "get_user"
        }
        assert judged.get(PAGE).status_code == 401

    def test_a_viewer_gets_no_button(self, judged: Pages) -> None:
        judged.sign_in("viewer")
        assert "thresholds/write" not in judged.get(f"{PAGE}?t0=0.8").text


class TestWriting:
    def test_the_thresholds_go_into_the_yaml_and_other_lines_stay(self, judged: Pages, file: Path) -> None:
        answer = judged.post("thresholds/write", fields_of(judged.get(f"{PAGE}?t0=0.8&t1=0.3").text))
        assert answer.status_code == 303
        assert "The YAML has these thresholds now" in judged.get(answer.headers["location"]).text
        assert file.read_text().startswith(f"name: {NAME}  # mine\n")
        serving = read_classifier(file).serving
        assert (serving.reject_below, serving.thresholds) == (0.3, {"cat": 0.8})
        text = judged.get(PAGE).text
        assert ("t0", "0.8") in re.findall(r'name="(t\d)" .*? value="([^"]+)"', text)

    def test_a_yaml_that_was_changed_meanwhile_stays(self, judged: Pages, file: Path) -> None:
        shown = fields_of(judged.get(f"{PAGE}?t0=0.8").text)
        changed = file.read_text() + "# later\n"
        file.write_text(changed)
        answer = judged.post("thresholds/write", shown)
        assert answer.status_code == 400
        assert "somebody has changed it since the page was shown" in answer.text
        assert file.read_text() == changed

    @pytest.mark.parametrize("choice", ["", "[]", '{"cat": "x"}', '{"cat": 2}', '{"cat": true}'])
    def test_what_are_no_thresholds_is_refused(self, judged: Pages, file: Path, choice: str) -> None:
        shown, before = fields_of(judged.get(f"{PAGE}?t0=0.8").text), file.read_text()
        assert judged.post("thresholds/write", {**shown, "choice": choice}).status_code == 400
        assert file.read_text() == before

    def test_a_viewer_and_a_foreign_page_write_nothing(self, judged: Pages, file: Path) -> None:
        shown, before = fields_of(judged.get(f"{PAGE}?t0=0.8").text), file.read_text()
        foreign = judged.post("thresholds/write", shown, headers={"sec-fetch-site": "cross-site"})
        judged.sign_in("viewer")
        assert (foreign.status_code, judged.post("thresholds/write", shown).status_code) == (403, 403)
        assert file.read_text() == before


def test_a_slider_is_judged_at_once_and_written_in_a_browser(judged: Pages, file: Path) -> None:
    complaints: list[str] = []
    with start_chromium() as chromium, serve(judged.app) as address:
        page = open_page(chromium, complaints)
        page.set_viewport_size({"width": 390, "height": 800})
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            page.goto(f"{address}{PAGE}")
            found: list[dict[str, Any]] = Axe().run(page).response["violations"]
            assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        slider = page.get_by_role("slider", name="Threshold of cat")
        slider.focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("End")
        page.locator("#all", has_text="40.0 %").wait_for()
        assert page.evaluate("document.activeElement.name") == "t0"
        assert "t0=1&" in page.url
        page.get_by_role("button", name="Write them to the YAML").click()
        page.get_by_text("The YAML has these thresholds now").wait_for()
    assert read_classifier(file).serving.thresholds == {"cat": 1.0}
    assert complaints == []
