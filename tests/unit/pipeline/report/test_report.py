from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.estimate import Estimate
from pipeline.artifacts.evaluation import Comparison, Difference
from pipeline.artifacts.gate import Override, Rule, Verdict
from pipeline.artifacts.training import Calibration, CrossValidation, Regularization
from pipeline.artifacts.tuning import StudyTrial, Tuning
from pipeline.report.build import copy_report, write_report
from pipeline.report.gallery import picture_name, web_link
from tests.fakes.model_record import tuning_reference
from tests.fakes.report import CLASSES, CLASSIFIER, DECISION, EVALUATION, TRAINING, WORKSPACE, ReportWorld
from tests.fakes.training import training_record

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for _, attributes in self.tags if attribute in attributes]


def report_of(world: ReportWorld, **changes: Any) -> str:
    uri = write_report(world.workspace, **world.arguments(**changes))
    assert uri == f"{WORKSPACE}/jobs/eval_1/report.html"
    return world.storage.read_bytes(uri).decode()


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return report_of(ReportWorld(tmp_path_factory.mktemp("bucket")))


def test_the_run_says_where_its_report_is_and_which_labels_are_in_doubt(tmp_path: Path) -> None:
    world = ReportWorld(tmp_path)
    report_of(world)
    said = world.storage.read_json(f"{WORKSPACE}/runs/toys/manual__1/evaluated.json")
    assert said["report"] == f"{WORKSPACE}/jobs/eval_1/report.html"
    assert said["dataset"] == {"dataset": "toys", "version": "d_1"}
    assert said["accepted"]
    [issue] = said["label_issues"]["found"]
    assert (issue["id"], issue["label"], issue["predicted"]) == ("p04", "ant", "bee")
    assert said["label_issues"]["examined"] == 24


def test_the_trials_of_a_study_are_shown_the_best_first(tmp_path: Path) -> None:
    world, one = ReportWorld(tmp_path), Estimate(value=0.25, error=0.01)
    parameters: dict[str, Any] = {"model.learning_rate": 0.00123456, "model.head.units": 64}
    shown = StudyTrial(number=2, parameters=parameters, state="SUCCEEDED", log_loss=one, accuracy=one)
    lost = StudyTrial(number=1, parameters=parameters, state="FAILED")
    tuning = Tuning(
        job="tune_1",
        dataset_version="d_1",
        study={"goal": "loss", "seed": 0},
        pictures=24,
        folds=5,
        trials=(shown, lost),
        importance={"model.learning_rate": 0.75, "model.head.units": 0.25},
        optimism=0.0123,
    )
    reference = tuning_reference()
    tuning.write(world.storage, reference.uri)
    html = report_of(world, training=replace(TRAINING, tuning=reference))
    text = " ".join(Page(html).text.split())
    assert "model.learning_rate 75.0 %, model.head.units 25.0 %" in text
    assert "too good by about 0.0123. The test pictures judged no trial." in text
    assert "264 0.0012350.2500 ± 0.010025.0 ± 1.0 %".replace(" ", "") in text.replace(" ", "")
    assert "failed" in text
    assert "judged no trial" not in report_of(world)


class TestOneFile:
    def test_the_same_run_gives_the_same_bytes(self, html: str, tmp_path: Path) -> None:
        assert report_of(ReportWorld(tmp_path)) == html

    def test_nothing_is_loaded_and_nothing_runs(self, html: str) -> None:
        page = Page(html)
        assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
        assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        assert "url(http" not in html
        [policy] = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
        assert policy is not None
        assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")

    def test_no_id_is_there_twice_and_every_reference_has_its_target(self, html: str) -> None:
        ids = Page(html).values("id")
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'(?:href="|url\()#([\w.-]+)', html)) <= set(ids)

    def test_drawings_take_the_colours_of_the_page(self, html: str) -> None:
        assert "currentColor" in html
        assert "var(--series-1)" in html
        assert "#010203" not in html

    def test_is_copied_beside_the_model(self, tmp_path: Path) -> None:
        world = ReportWorld(tmp_path)
        html = report_of(world)
        copy_report(world.workspace, evaluation_job="eval_1", model_uri=TRAINING.model_uri)
        assert world.storage.read_bytes(f"{TRAINING.model_uri}/graft/report.html").decode() == html


SECTIONS = ("figures", "classes", "confusion", "worst", "labels", "calibration", "data", "training", "again")


class TestContent:
    def test_the_verdict_comes_first(self, html: str) -> None:
        assert html.index("Accepted</h2>") < html.index(">Figures</h2>") < html.index(">Worst mistakes</h2>")

    def test_a_mistake_shows_its_map_and_the_training_pictures_like_it(self, html: str) -> None:
        section = html.split('id="worst"')[1].split("</section>")[0]
        assert section.count("p26.png") == 2  # alternative text and name
        assert "What spoke for bee" in section
        assert section.count("cosine") == 3

    def test_the_flipped_label_is_suspected(self, html: str) -> None:
        section = html.split('id="labels"')[1].split("</section>")[0]
        assert "1 of 24 training pictures" in Page(section).text
        assert "p04.png" in section

    def test_counts_reasons_and_licences_are_shown(self, html: str) -> None:
        text = Page(html.split('id="data"')[1]).text
        assert "truncated: 2" in text
        stages = "36 found, 35 downloaded, 33 valid, 30 unique and wanted, 24 training, 6 test."
        assert f"Pictures: {stages}" in text
        assert "No groups of near duplicates have pictures on both sides of the split." in text
        assert "class_loss (warn): ant shrank from 40 to 15 pictures" in text
        assert "not stated: 30" in text

    def test_a_leak_over_the_split_is_counted(self, tmp_path: Path) -> None:
        text = Page(report_of(ReportWorld(tmp_path, extra={"group": "one"}))).text
        assert "1 group of near duplicates has pictures on both sides of the split." in text

    def test_sections_come_in_the_order_that_people_expect(self, html: str) -> None:
        found = [html.index(f'<h2 id="{name}">') for name in SECTIONS]
        assert found == sorted(found)

    def test_size_and_speed_are_shown(self, html: str) -> None:
        text = Page(html.split('id="again"')[1]).text
        assert "Model size in MB21.0" in text
        assert "Batch prediction, ms a picture31.3" in text

    def test_intervals_say_what_they_are_about(self, html: str) -> None:
        text = Page(html.split('id="figures"')[1].split("</section>")[0]).text
        assert "The intervals are those of this model on these pictures." in text
        assert "retrained 5 times, each time without 1/5 of the training pictures" in text
        assert "90.0 % on average, with a standard deviation of 5.0 points" in text

    def test_shares_are_per_cent_wherever_they_stand(self, tmp_path: Path) -> None:
        interval, decimals = (-0.3, 0.5), r"(?<![\d.])[01]\.\d{3,}"
        comparison = Comparison(
            pictures=6,
            gained=(),
            lost=(),
            difference=1 / 6,
            interval=interval,
            p_value=1.0,
            differences={"accuracy": Difference(value=1 / 6, ci95=interval)},
        )
        champion = EVALUATION.candidate
        evaluation = replace(EVALUATION, comparison=comparison, champion=champion, champion_version="v_1")
        key = "absolute.accuracy.min"
        rule = Rule(key=key, verdict=Verdict.PASSED, text="", value=5 / 6, limit=0.6, interval=(0.44, 0.97))
        html = report_of(
            ReportWorld(tmp_path), evaluation=evaluation, decision=replace(DECISION, rules=(rule,))
        )
        for anchor in ("verdict", "figures", "classes", "confusion"):
            section = html.split(f'id="{anchor}"')[1].split("</section>")[0]
            text = re.sub("<[^>]*>", " ", section)
            assert not re.findall(decimals, text), (anchor, text)
        verdict = Page(html.split('id="verdict"')[1].split("</section>")[0]).text
        assert "83.3 %60.0 %44.0 to 97.0 %" in "".join(verdict.split("\n"))
        figures = Page(html.split('id="figures"')[1].split("</section>")[0]).text
        assert "+16.7 points, 95 % interval -30.0 points to +50.0 points" in " ".join(figures.split())
        assert "0.4" in figures  # the log loss is no share

    def test_a_difference_without_an_interval_is_shown_alone(self, tmp_path: Path) -> None:
        differences = {
            "accuracy": Difference(value=1 / 6, ci95=(-0.3, 0.5)),
            "loss": Difference(value=-0.125, ci95=None),
        }
        comparison = Comparison(
            pictures=6,
            gained=(),
            lost=(),
            difference=1 / 6,
            interval=(-0.3, 0.5),
            p_value=1.0,
            differences=differences,
        )
        champion = EVALUATION.candidate
        evaluation = replace(EVALUATION, comparison=comparison, champion=champion, champion_version="v_1")
        html = report_of(ReportWorld(tmp_path), evaluation=evaluation)
        assert '<td class="n">-0.125</td>' in html
        assert '<td class="n">+16.7 points (-30.0 points to +50.0 points)</td>' in html

    def test_no_epoch_is_said_to_be_the_best_without_validation(self, html: str, tmp_path: Path) -> None:
        assert "best epoch" in html
        assert "was kept" in html
        world = ReportWorld(tmp_path)
        history = {"loss": [0.7, 0.4], "accuracy": [0.5, 0.9]}
        training_record(classes=tuple(CLASSES), history=history, epochs_run=2, best_epoch=2).write(
            world.workspace.job("train_1")
        )
        text = report_of(world).split('id="training"')[1].split("</section>")[0]
        assert "epochs run: 2" in text
        assert "Loss at each epoch." in text
        for claim in ("best epoch", "was kept", ">kept<"):
            assert claim not in text

    def test_the_lines_under_training_have_the_formats_of_the_figures(self, tmp_path: Path) -> None:
        world = ReportWorld(tmp_path)
        training_record(
            classes=tuple(CLASSES),
            calibration=Calibration(
                temperature=2.92833, pictures=46, log_loss_before=0.0000123, log_loss_after=0.013
            ),
            cross_validation=CrossValidation(
                folds=5, pictures=46, accuracy=0.9783, spread=0.02, log_loss=0.0571234, units=128
            ),
        ).write(world.workspace.job("train_1"))
        text = Page(report_of(world).split('id="training"')[1].split("</section>")[0]).text
        assert "2.928 temperature, 46 pictures, 1.23e-05 log loss before, 0.013 log loss after" in text
        assert "5 folds, 46 pictures, 97.8 % accuracy, 2.0 points spread, 0.05712 log loss, 128 units" in text

    def test_the_run_is_named_by_when_it_was_started(self, tmp_path: Path) -> None:
        html = report_of(ReportWorld(tmp_path), run_id="scheduled__2026-11-26T03:00:00+00:00")
        assert "Report of run 26 Nov 2026 03:00, by schedule" in Page(html).text

    def test_each_picture_can_be_made_a_link_by_the_pages_and_is_none_in_a_file(self, html: str) -> None:
        pictures = re.findall(r'<a data-picture="d_1/(p\d\d)"><img', html)
        assert {"p26", "p04"} <= set(pictures)
        assert html.count('<a data-picture="') == len(pictures)
        assert not [a for tag, a in Page(html).tags if "data-picture" in a and "href" in a]

    def test_commands_in_messages_are_code(self, tmp_path: Path) -> None:
        decision = replace(DECISION, accepted=False, reasons=("a: use `graft <run>`",), note="n")
        html = report_of(ReportWorld(tmp_path), decision=decision)
        assert "a: use <code>graft &lt;run&gt;</code>" in html

    def test_curves_and_temperature_are_shown(self, html: str) -> None:
        section = html.split('id="calibration"')[1].split("</section>")[0]
        assert section.count("<svg") == 3  # precision and recall, ROC, reliability
        assert "true positive rate" in section

    def test_reliability_is_shown_with_the_temperature_and_without(self, html: str) -> None:
        section = html.split('id="calibration"')[1].split("</section>")[0]
        assert "without the temperature" in section
        assert "its temperature of 2" in Page(section).text
        training = Page(html.split('id="training"')[1].split("</section>")[0]).text
        for part in ("2 temperature", "24 pictures", "0.5 log loss before", "0.25 log loss after"):
            assert part in training.split("calibration: ")[1]

    def test_the_share_of_pictures_unlike_the_training_pictures_is_shown(self, html: str) -> None:
        text = Page(html.split('id="calibration"')[1].split("</section>")[0]).text
        assert "unlike the training pictures: 16.7 % at 0.9, 16.7 % at 0.95, 0.0 % at 0.99." in text

    def test_a_model_without_a_temperature_has_one_line(self, tmp_path: Path) -> None:
        world = ReportWorld(tmp_path)
        training_record(classes=tuple(CLASSES)).write(world.workspace.job("train_1"))
        html = report_of(world)
        section = html.split('id="calibration"')[1].split("</section>")[0]
        assert "as sure as right" in section
        assert "without the temperature" not in section

    def test_logistic_regression_has_a_strength_and_no_epochs(self, tmp_path: Path) -> None:
        world = ReportWorld(tmp_path)
        chosen = Regularization(c=300.0, tried=(3.0, 300.0), log_losses=(0.5, 0.25))
        training_record(
            classes=tuple(CLASSES), history={}, epochs_run=0, best_epoch=0, regularization=chosen
        ).write(world.workspace.job("train_1"))
        text = Page(report_of(world).split('id="training"')[1].split("</section>")[0]).text
        assert "regularization: C = 300, chosen from 3 to 300 by cross-validation" in text
        assert "epoch" not in text

    def test_a_refusal_shows_every_reason_and_rule(self, tmp_path: Path) -> None:
        rule = Rule(key="change.loss.max_drop", verdict=Verdict.FAILED, text="", value=0.4, limit=0.1)
        decision = replace(DECISION, accepted=False, reasons=("a: one", "b: two"), note="n", rules=(rule,))
        text = Page(report_of(ReportWorld(tmp_path), decision=decision)).text
        for part in ("Refused", "a: one", "b: two", "change.loss.max_drop", "failed"):
            assert part in text

    def test_an_override_names_person_and_reason(self, tmp_path: Path) -> None:
        override = Override(by="Ada", reason="known drift")
        decision = replace(DECISION, reasons=("a: one",), override=override)
        text = Page(report_of(ReportWorld(tmp_path), decision=decision)).text
        assert "Accepted by override" in text
        assert "Ada: known drift" in text

    def test_gained_and_lost_pictures_are_shown(self, tmp_path: Path) -> None:
        world = ReportWorld(tmp_path)
        comparison = Comparison(
            pictures=6,
            gained=("p24", "p25"),
            lost=("p26",),
            difference=0.1667,
            interval=(-0.3, 0.5),
            p_value=1.0,
            differences={"accuracy": Difference(value=0.1667, ci95=(-0.3, 0.5))},
        )
        evaluation = replace(
            EVALUATION, comparison=comparison, champion=EVALUATION.candidate, champion_version="v_1"
        )
        html = report_of(world, evaluation=evaluation)
        section = html.split('id="changed"')[1].split("</section>")[0]
        assert "only the candidate is right (2)" in section
        assert "p26.png" in section.split("Lost")[1]

    def test_says_so_when_neither_features_nor_maps_are_there(self, tmp_path: Path) -> None:
        world = ReportWorld(tmp_path)
        for uri in world.storage.list_uris(f"{WORKSPACE}/features/"):
            world.storage.delete(uri)
        world.storage.delete(f"{WORKSPACE}/jobs/train_1/training.json")
        assert "Not examined" in Page(report_of(world)).text


class TestHostileText:
    def test_titles_names_and_licences_render_as_text(self, tmp_path: Path) -> None:
        extra = {"creator": HOSTILE, "license": HOSTILE, "page_url": "javascript:alert(3)"}
        world = ReportWorld(tmp_path, names={"p26": f"%3Cb%3E{HOSTILE}.png"}, extra=extra)
        classifier = CLASSIFIER.model_copy(update={"description": HOSTILE})
        page = Page(report_of(world, classifier=classifier, run_id=HOSTILE))
        assert "script" not in {tag for tag, _ in page.tags}
        assert page.values("onerror") == []
        assert all("javascript" not in value for value in page.values("href"))
        assert HOSTILE in page.text

    def test_a_hostile_label_is_text_in_drawings_too(self, tmp_path: Path) -> None:
        world = ReportWorld(tmp_path)
        label = "_$\\frac</text><script>alert(1)</script>"
        world.relabel("bee", label)
        page = Page(report_of(world, training=replace(TRAINING, classes=["ant", label])))
        assert "script" not in {tag for tag, _ in page.tags}

    def test_characters_that_turn_text_round_are_left_out(self, tmp_path: Path) -> None:
        html = report_of(ReportWorld(tmp_path), run_id="gpj.\u202eexe")
        assert "\u202e" not in html

    @pytest.mark.parametrize(
        "url", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "http://[", "", None]
    )
    def test_only_web_addresses_become_links(self, url: str | None) -> None:
        assert web_link(url) is None

    def test_web_addresses_become_links(self) -> None:
        assert web_link("https://example.org/a b") == "https://example.org/a b"

    def test_a_picture_is_named_by_the_end_of_its_address(self) -> None:
        assert picture_name("file:///a/b%20c.jpg") == "b c.jpg"
        assert picture_name("gs://x/set.npz#12") == "set.npz#12"
        assert picture_name("sample:brick") == "brick"
        assert picture_name(f"gs://x/brick/{'0123456789ab' + 52 * 'c'}.png") == "0123456789ab.png"
        assert picture_name("gs://x/0123456789abc.png") == "0123456789abc.png"
