from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.artifacts.dataset import DataVerdict
from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import DatasetVersionFolder, ModelDirectory
from pipeline.artifacts.gate import GateDecision, Override, Verdict
from pipeline.artifacts.history import EventType, HistoryEvent, read_history, record_event
from pipeline.artifacts.metrics import Metrics
from pipeline.artifacts.model_record import DatasetReference, Lineage, TrainingReference
from pipeline.artifacts.run_summary import Outcome, WorkSummary, read_summary, write_summary
from pipeline.artifacts.steps import CleanResult, FetchResult, PackResult, Promotion
from pipeline.artifacts.training import CrossValidation
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.config.gate import LatencyLimit
from pipeline.config.serving import ServingConfig
from pipeline.deploy.lineage import build_lineage, describe_version
from pipeline.deploy.model_card import count_licences, front_matter, model_card, read_cross_validation
from pipeline.deploy.promote import promote_version
from pipeline.deploy.run_summary import build_summary, count_work, run_note
from pipeline.deploy.smoke_test import (
    judge_latency,
    read_golden_instances,
    smoke_test,
    smoke_test_or_delete,
)
from pipeline.deploy.version import deploy_version, record_in_model, version_name
from pipeline.errors import PlatformUnavailable, SmokeTestFailed
from pipeline.evaluate.gate import decide_gate
from pipeline.evaluate.predictions import Prediction
from pipeline.ml_engine.protocol import label_value
from pipeline.storage import Storage
from tests.fakes.dataset import row, write_rows
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.training import training_record

METRICS = Metrics(
    accuracy=0.9, accuracy_ci95=(0.7, 0.95), loss=0.3, test_pictures=10, confusion={"a": {"a": 9, "b": 1}}
)
EVALUATION = Evaluation(job="graft_b", classes=("a", "b"), candidate=METRICS)
DATASET = CleanResult(
    dataset="m",
    version="d_1",
    uri="gs://graft/datasets/m/d_1",
    classes={"a": 30, "b": 20},
    pictures=50,
    test_pictures=10,
    train_pictures=40,
    rejected={},
    decoded=50,
    warnings=[],
    expect=DataVerdict(),
    new=True,
)
WORK = WorkSummary(downloaded=1, decoded=1, forwarded=1, cached=0)
CARD: dict[str, Any] = {"weights_license": "Apache-2.0", "licences": {"CC0": 20, "not stated": 3}}
CLASSIFIER = Classifier.from_dict({"name": "m", "dataset": {"source": {"type": "sample"}}})


def decision(min_accuracy: float = 0.5, **more: Any) -> GateDecision:
    gate = CLASSIFIER.gate.model_copy(update={"min_accuracy": min_accuracy, **more})
    return decide_gate(EVALUATION, gate)


def lineage(gate: GateDecision) -> Lineage:
    return build_lineage(
        CLASSIFIER,
        run_id="run 1",
        dataset=DatasetReference.from_dict(DATASET.to_dict()),
        training=TrainingReference(job="graft_t", weights_uri="gs://w", package_uri="gs://p"),
        evaluation=EVALUATION,
        decision=gate,
    )


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage({"graft": tmp_path})


@pytest.fixture
def workspace(storage: Storage) -> Workspace:
    return Workspace(storage, "gs://graft")


def deploy(engine: FakeMLEngine, version: str) -> None:
    """Deploy a version of a model that has one which serves."""
    engine.ensure_model("m")
    if not engine.list_versions("m"):
        engine.create_version("m", {"name": version, "deploymentUri": f"gs://graft/{version}"})
    deploy_version(
        engine,
        model="m",
        version=version,
        model_uri=f"gs://graft/{version}",
        runtime_version="2.21",
        description="d",
        labels={},
    )


class TestVersion:
    def test_name_is_the_runs_own_and_fits_ml_engine(self) -> None:
        assert version_name("m", "run 1") == version_name("m", "run 1")
        assert version_name("m", "run 1") != version_name("m", "run 2")
        assert len(version_name("m", "run 1")) == len("v_") + 12

    def test_labels_keep_v1s_alphabet(self) -> None:
        assert label_value("manual__2026-01-01T00:00:00+00:00") == "manual__2026-01-01t00_00_00_00_00"
        assert len(label_value("x" * 99)) == 63

    def test_card_says_when_there_is_no_label(self) -> None:
        serving = ServingConfig(reject_below=0.3, thresholds={"cat": 0.8, "dog": 1})
        card = model_card(
            CLASSIFIER.model_copy(update={"serving": serving}), lineage(decision()), EVALUATION, **CARD
        )
        assert "none below a probability of 0.3 or below a probability of 0.8 for cat, 1 for dog" in card

    def test_card_says_what_retraining_changes(self, storage: Storage) -> None:
        folds = CrossValidation(folds=5, pictures=40, accuracy=0.9, spread=0.04, log_loss=0.3, units=128)
        job = ModelDirectory(storage, "gs://graft/jobs/1/model").job
        assert read_cross_validation(job) is None
        training_record(cross_validation=folds).write(job)
        card = model_card(
            CLASSIFIER, lineage(decision()), EVALUATION, **CARD, cross_validation=read_cross_validation(job)
        )
        assert "Cross-validation: retrained 5 times" in card
        assert "90.0 % on average, with a standard deviation of 4.0 points." in card

    def test_model_directory_carries_its_record(self, storage: Storage) -> None:
        made_of, model = lineage(decision()), ModelDirectory(storage, "gs://graft/m")
        card = model_card(CLASSIFIER, made_of, EVALUATION, **CARD)
        record_in_model(model, evaluation=EVALUATION, lineage=made_of, card=card)
        assert describe_version(model).to_dict() == {
            "accuracy": 0.9,
            "run_id": "run 1",
            "dataset_version": "d_1",
        }
        text = storage.read_bytes("gs://graft/m/graft/MODEL_CARD.md").decode()
        assert "| a | 30 |" in text
        assert "| CC0 | 20 |" in text
        front = yaml.safe_load(text.split("---\n")[1])
        assert (front["license"], front["pipeline_tag"]) == ("apache-2.0", "image-classification")
        [result] = front["model-index"][0]["results"]
        assert result["metrics"][0] == {"type": "accuracy", "value": 0.9}
        assert "accuracy 0.9000 (95 % interval of this model on these pictures: " in text
        assert "Cross-validation" not in text
        assert storage.read_json("gs://graft/m/graft/evaluation.json") == EVALUATION.to_dict()

    def test_model_directory_of_somebody_else_says_nothing(self, storage: Storage) -> None:
        assert describe_version(ModelDirectory(storage, "gs://graft/x")).run_id is None


class TestPromotion:
    def test_of_the_default_changes_nothing(self, workspace: Workspace) -> None:
        engine = FakeMLEngine()
        deploy(engine, "v_1")
        assert (
            promote_version(workspace, engine, model="m", version="v_1", champion=None) is Promotion.PROMOTED
        )

    def test_replaces_the_champion_it_was_compared_with_and_keeps_it(self, workspace: Workspace) -> None:
        engine = FakeMLEngine()
        deploy(engine, "v_1")
        deploy(engine, "v_2")
        for _ in range(2):  # a retry finds it done
            result = promote_version(workspace, engine, model="m", version="v_2", champion="v_1")
            assert result is Promotion.PROMOTED
        assert engine.models["m"]["defaultVersion"]["name"].endswith("v_2")
        assert len(engine.list_versions("m")) == 2

    @pytest.mark.parametrize("champion", ["v_0", None])
    def test_another_default_supersedes_and_the_version_is_deleted(
        self, workspace: Workspace, champion: str | None
    ) -> None:
        engine = FakeMLEngine()
        deploy(engine, "v_1")
        deploy(engine, "v_2")
        for _ in range(2):
            result = promote_version(workspace, engine, model="m", version="v_2", champion=champion)
            assert result is Promotion.SUPERSEDED
        assert engine.get_version("m", "v_2") is None
        assert engine.models["m"]["defaultVersion"]["name"].endswith("v_1")


class TestSmokeTest:
    INSTANCES = ({"key": "k1", "inputs": {"b64": "eA=="}}, {"key": "k2", "inputs": {"b64": "eQ=="}})
    EXPECTED = {
        "k1": Prediction(key="k1", outputs=(0.25, 0.75), label="b"),
        "k2": Prediction(key="k2", outputs=(0.5, 0.5), label="a"),
    }

    def run(self, engine: FakeMLEngine, **options: Any) -> Any:
        arguments = {
            "model": "m",
            "version": "v_1",
            "instances": list(self.INSTANCES),
            "expected": self.EXPECTED,
            "latency_budget_seconds": 1.0,
            **options,
        }
        return smoke_test_or_delete(engine, **arguments)

    def engine(self, shift: float = 0.0, key: str | None = None) -> FakeMLEngine:
        def answer(version: str, instance: dict[str, Any]) -> dict[str, Any]:
            outputs = [value + shift for value in self.EXPECTED[instance["key"]].outputs]
            return {"key": key or instance["key"], "outputs": outputs}

        engine = FakeMLEngine(answer=answer)
        deploy(engine, "v_1")
        return engine

    def test_equal_answers_pass(self) -> None:
        engine = self.engine(shift=9e-4)
        result = self.run(engine)
        assert result.pictures == 2
        assert result.max_difference == pytest.approx(9e-4)
        assert engine.get_version("m", "v_1") is not None

    @pytest.mark.parametrize("options", [{"shift": 2e-3}, {"key": "k9"}])
    def test_other_answers_fail_and_delete_the_version(self, options: dict[str, Any]) -> None:
        engine = self.engine(**options)
        with pytest.raises(SmokeTestFailed, match="Picture k1"):
            self.run(engine)
        assert engine.get_version("m", "v_1") is None

    @staticmethod
    def timer(*seconds: float) -> Callable[[], float]:
        """A clock that tells the first answers' seconds, then 0.1 for each."""
        ticks, now = [], 0.0
        for spent in (*seconds, *[0.1] * 30):
            ticks += [now, now + spent]
            now += spent
        return iter(ticks).__next__

    def test_twenty_answers_are_timed_and_each_one_compared(self) -> None:
        result = self.run(self.engine(), timer=self.timer(9.0, 0.5))
        assert (result.pictures, result.answers) == (2, 20)
        assert result.slowest_seconds == pytest.approx(0.5)
        assert (result.median_ms, result.p95_ms) == (pytest.approx(100), pytest.approx(100))

    def test_slow_answers_fail_but_the_first_may_warm_up(self) -> None:
        engine = self.engine()
        with pytest.raises(SmokeTestFailed, match=r"2\.50 s"):
            self.run(engine, timer=self.timer(0.1, 2.5))
        assert engine.get_version("m", "v_1") is None

    def test_one_slow_answer_in_twenty_is_within_a_p95_budget(self) -> None:
        rule = judge_latency(self.run(self.engine(), timer=self.timer(0.1, 0.9)), 150)
        assert (rule.verdict, rule.limit) == (Verdict.PASSED, 150)

    def test_two_slow_answers_in_twenty_break_a_p95_budget(self) -> None:
        rule = judge_latency(self.run(self.engine(), timer=self.timer(0.1, 0.9, 0.9)), 150)
        assert rule.verdict is Verdict.FAILED
        assert rule.text == ("latency_ms.p95: of 20 answers, 95 % came within 900.0 ms; the limit is 150 ms")

    def test_a_version_too_slow_for_its_gate_is_refused_unless_a_person_overrode_it(self) -> None:
        gate = CLASSIFIER.gate.model_copy(update={"latency_ms": LatencyLimit(p95=150)})
        rule = judge_latency(self.run(self.engine(), timer=self.timer(0.1, 0.9, 0.9)), 150)
        decided = decide_gate(EVALUATION, gate).with_rule(rule)
        assert (decided.accepted, decided.reasons) == (False, (rule.text,))
        assert rule in decided.rules
        person = {"override_by": "Ada", "override_reason": "demo", "min_accuracy": 0.99}
        overridden = decide_gate(EVALUATION, gate.model_copy(update=person)).with_rule(rule)
        assert (overridden.accepted, overridden.reasons[-1]) == (True, rule.text)

    def test_an_engine_that_is_away_does_not_condemn_the_version(self) -> None:
        def silent(version: str, instance: dict[str, Any]) -> dict[str, Any]:
            raise PlatformUnavailable("restarting")

        engine = FakeMLEngine(answer=silent)
        deploy(engine, "v_1")
        with pytest.raises(PlatformUnavailable):
            self.run(engine)
        assert engine.get_version("m", "v_1") is not None

    def test_no_golden_picture_is_a_failure(self) -> None:
        with pytest.raises(SmokeTestFailed, match="no golden picture"):
            smoke_test(
                self.engine(),
                model="m",
                version="v_1",
                instances=[],
                expected={},
                latency_budget_seconds=1,
            )

    def test_golden_pictures_are_the_first_of_each_class(self, storage: Storage) -> None:
        keys = ["a1", "a2", "a3", "b1", "b2", "b3"]
        for part, chosen in enumerate((keys[:4], keys[4:])):
            lines = "\n".join(json.dumps({"key": key, "inputs": {"b64": ""}}) for key in chosen)
            storage.write_bytes(f"gs://graft/tests/{part}", lines.encode())
        golden = read_golden_instances(
            storage, ["gs://graft/tests/0", "gs://graft/tests/1"], {key: key[0] for key in keys}
        )
        assert [instance["key"] for instance in golden] == ["a1", "a2", "b1", "b2"]


class TestOverride:
    PERSON = {"override_by": "Ada", "override_reason": "the camera was broken"}

    def test_shows_in_summary_note_card_and_versions(self, storage: Storage) -> None:
        taken = decision(0.95, **self.PERSON)
        assert taken.accepted
        summary = build_summary(
            run_id="r",
            state=Outcome.SUCCESS,
            dataset=DATASET,
            work=WORK,
            evaluation=EVALUATION,
            decision=taken,
        )
        assert summary.to_dict()["gate"]["override"] == {"by": "Ada", "reason": "the camera was broken"}
        assert "overridden by Ada (the camera was broken)" in run_note(Outcome.SUCCESS, taken, "v_1")
        made_of, model = lineage(taken), ModelDirectory(storage, "gs://graft/m")
        card = model_card(CLASSIFIER, made_of, EVALUATION, **CARD)
        assert "overridden by Ada (the camera was broken): absolute.accuracy.min" in card
        record_in_model(model, evaluation=EVALUATION, lineage=made_of, card=card)
        assert describe_version(model).override == Override(by="Ada", reason="the camera was broken")


def test_hostile_labels_and_licences_are_shown_in_a_card_and_never_run() -> None:
    label = "ant <img src=x onerror=alert(1)>|"
    dataset = DatasetReference(dataset="x", version="d", uri="", classes={label: 3})
    metrics = replace(EVALUATION.candidate, confusion={label: {label: 3}})
    evaluation = replace(EVALUATION, candidate=metrics)
    more = {**CARD, "licences": {"<script>alert(1)</script>": 3}}
    card = model_card(CLASSIFIER, replace(lineage(decision()), dataset=dataset), evaluation, **more)
    assert "ant" in card
    assert re.search(r"(?<!\\)<(img|script)", card) is None


def test_a_hostile_name_stays_inside_its_value_in_the_front_matter() -> None:
    dataset = DatasetReference(dataset="x\n---\nevil: yes", version="d", uri="", classes={})
    text = front_matter(CLASSIFIER, EVALUATION, dataset, "MIT")
    assert yaml.safe_load(text.removeprefix("---\n").removesuffix("---\n"))["datasets"] == [dataset.dataset]


def test_licences_are_counted_the_most_frequent_first(storage: Storage) -> None:
    rows = [("MIT", "train"), ("MIT", "test"), (None, "train"), ("CC0", None)]
    write_rows(storage, "gs://graft/d", *(row("p", license=name, split=split) for name, split in rows))
    counts = count_licences(DatasetVersionFolder(storage, "gs://graft/d"))
    assert list(counts.items()) == [("MIT", 2), ("not stated", 1)]


class TestHistory:
    def test_events_come_back_oldest_first_and_once(self, workspace: Workspace) -> None:
        first = HistoryEvent(event=EventType.PROMOTED, version="v_1", run_id="r1")
        second = HistoryEvent(event=EventType.PROMOTED, version="v_2", run_id="r2")
        record_event(workspace, "m", second, now=datetime(2026, 1, 2, tzinfo=UTC))
        record_event(workspace, "m", first, now=datetime(2026, 1, 1, tzinfo=UTC))
        again = record_event(workspace, "m", first)
        assert again.at.startswith("2026-01-01")
        assert [event.version for event in read_history(workspace, "m")] == ["v_1", "v_2"]

    def test_classifier_without_history_has_none(self, workspace: Workspace) -> None:
        assert read_history(workspace, "m") == []


class TestSummary:
    def test_work_counts_a_picture_decoded_twice_once(self) -> None:
        work = count_work(
            [FetchResult(index=None, downloaded=1), FetchResult(index=None, downloaded=2)],
            replace(DATASET, decoded=5),
            [PackResult(decoded=3, written=1), PackResult(decoded=1, written=1)],
            forwarded=4,
            cached=0,
        )
        assert work == WorkSummary(downloaded=3, decoded=5, forwarded=4, cached=0)

    def test_summary_is_the_command_lines_document_without_seconds(self, workspace: Workspace) -> None:
        summary = build_summary(
            run_id="manual__2026-01-01T00:00:00+00:00/x",
            state=Outcome.REFUSED,
            dataset=DATASET,
            work=WORK,
            evaluation=EVALUATION,
            decision=decision(min_accuracy=0.95),
        )
        uri = write_summary(workspace, summary)
        assert uri == "gs://graft/runs/m/manual__2026-01-01T00%3A00%3A00%2B00%3A00%2Fx/summary.json"
        assert read_summary(workspace, "m", summary.run_id) == summary
        assert workspace.storage.read_json(uri) == {
            "format": 1,
            "classifier": "m",
            "run_id": "manual__2026-01-01T00:00:00+00:00/x",
            "state": "refused",
            "dataset": {"version": "d_1", "pictures": 50, "classes": {"a": 30, "b": 20}},
            "work": {"downloaded": 1, "decoded": 1, "forwarded": 1, "cached": 0},
            "evaluation": {
                "accuracy": 0.9,
                "accuracy_ci95": [0.7, 0.95],
                "loss": 0.3,
                "test_pictures": 10,
                "job": "graft_b",
            },
            "gate": {
                "accepted": False,
                "reasons": ["absolute.accuracy.min: accuracy 0.9 is below the limit 0.95"],
            },
            "version": None,
        }

    @pytest.mark.parametrize(
        ("state", "words"),
        [("success", "Deployed `v_1`"), ("refused", "Refused by the gate"), ("superseded", "Superseded")],
    )
    def test_note_tells_the_outcome_and_the_reasons(self, state: str, words: str) -> None:
        note = run_note(Outcome(state), decision(min_accuracy=0.95), "v_1")
        assert words in note
        assert "absolute.accuracy.min" in note
