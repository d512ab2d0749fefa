from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.evaluation import FIRST_VERSION, Evaluation, SharedClasses
from pipeline.artifacts.folders import DatasetVersionFolder, ModelDirectory
from pipeline.artifacts.gate import GateDecision
from pipeline.config import GateConfig
from pipeline.errors import ConfigError, EvaluationError, FormatTooNew, PredictionJoinError
from pipeline.evaluate.champion import Champion, find_labels, read_champion
from pipeline.evaluate.evaluation import evaluate_model
from pipeline.evaluate.gate import decide_gate
from pipeline.evaluate.predictions import (
    Prediction,
    PredictionJob,
    join_predictions,
    read_predictions,
    read_test_labels,
)
from pipeline.evaluate.report import confusion_table, evaluation_report
from pipeline.storage import Storage
from tests.fakes import dataset
from tests.fakes.model_record import lineage

DATASET = "gs://graft/datasets/d/d_1"
CLASSES = ("cat", "dog")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage({"graft": tmp_path})
    rows = [
        dataset.row("t1", "cat"),
        dataset.row("t2", "dog"),
        dataset.row("x1", "dog", status="quarantined"),
        dataset.row("x2", "dog", split="train"),
    ]
    dataset.write_rows(storage, DATASET, *rows)
    return storage


def row(key: str, cat: float, label: str | None = None) -> dict[str, Any]:
    name = label or ("cat" if cat > 0.5 else "dog")
    return {"key": key, "outputs": [cat, 1 - cat], "label": name, "score": max(cat, 1 - cat)}


def write_job(storage: Storage, job_id: str, *files: list[dict[str, Any]], **output: Any) -> dict[str, Any]:
    path = f"gs://graft/jobs/{job_id}/predictions"
    for index, rows in enumerate(files):
        name = f"{path}/prediction.results-{index:05d}-of-{len(files):05d}"
        storage.write_bytes(name, "\n".join(map(json.dumps, rows)).encode() + b"\n")
    storage.write_bytes(f"{path}/prediction.errors_stats-00000-of-00001", b"")
    count = {"predictionCount": str(sum(map(len, files))), "errorCount": "0", **output}
    return {"jobId": job_id, "predictionInput": {"outputPath": path}, "predictionOutput": count}


def evaluate(storage: Storage, job: dict[str, Any], **more: Any) -> Evaluation:
    return evaluate_model(
        DatasetVersionFolder(storage, DATASET),
        classes=CLASSES,
        candidate_job=PredictionJob.of(job),
        **more,
    )


def champion_of(job: dict[str, Any], classes: tuple[str, ...] | None = CLASSES, **more: Any) -> Champion:
    path = job["predictionInput"]["outputPath"]
    return Champion(version="v_1", job=job["jobId"], output_path=path, classes=classes, **more)


class TestJoin:
    def test_reads_every_result_file_in_any_order(self, storage: Storage) -> None:
        job = write_job(storage, "a", [row("t2", 0.1)], [row("t1", 0.9)])
        assert evaluate(storage, job).candidate.accuracy == 1.0

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([row("t1", 0.9)], r"1 missing \(t2\)"),
            ([row("t1", 0.9), row("t2", 0.1), row("t1", 0.8)], r"1 doubled \(t1\)"),
            ([row("t1", 0.9), row("t2", 0.1), row("t3", 0.8)], r"1 unknown \(t3\)"),
            ([{"outputs": [1, 0], "label": "cat"}, row("t1", 0.9)], r"1 missing .*1 unknown \(None\)"),
        ],
    )
    def test_keys_must_match_one_to_one(self, rows: list[dict[str, Any]], message: str) -> None:
        with pytest.raises(PredictionJoinError, match=message):
            join_predictions(map(Prediction.from_dict, rows), ["t1", "t2"])

    def test_error_lists_only_a_few_keys(self) -> None:
        with pytest.raises(PredictionJoinError, match=r"9 missing \(k0, k1, k2, \.\.\.\)"):
            join_predictions([], [f"k{index}" for index in range(9)])

    def test_only_kept_test_pictures_count(self, storage: Storage) -> None:
        assert read_test_labels(DatasetVersionFolder(storage, DATASET)) == {"t1": "cat", "t2": "dog"}


class TestCounts:
    def test_prediction_count_must_be_the_number_of_test_pictures(self, storage: Storage) -> None:
        job = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)], predictionCount="3")
        with pytest.raises(EvaluationError, match="counts 3 predictions and 0 errors.* 2 test pictures"):
            evaluate(storage, job)

    def test_counted_errors_fail_the_evaluation(self, storage: Storage) -> None:
        job = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)], errorCount="1")
        with pytest.raises(EvaluationError, match="1 errors"):
            evaluate(storage, job)

    def test_written_errors_are_shown(self, storage: Storage) -> None:
        path = "gs://graft/jobs/a/predictions"
        storage.write_bytes(
            f"{path}/prediction.errors_stats-00000-of-00001", b'{"error": "t2 is no picture"}\n'
        )
        with pytest.raises(EvaluationError, match="t2 is no picture"):
            read_predictions(storage, path)

    def test_no_result_file_is_an_error(self, storage: Storage) -> None:
        with pytest.raises(EvaluationError, match="no prediction under"):
            read_predictions(storage, "gs://graft/jobs/none/predictions")


class TestChampion:
    def test_first_version_says_that_there_is_none(self, storage: Storage) -> None:
        job = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        evaluation = evaluate(storage, job)
        assert (evaluation.champion, evaluation.note) == (None, FIRST_VERSION)

    def test_champion_is_measured_and_compared_on_the_same_pictures(self, storage: Storage) -> None:
        candidate = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        champion = write_job(storage, "b", [row("t1", 0.9), row("t2", 0.8)])
        evaluation = evaluate(storage, candidate, champion=champion_of(champion))
        assert evaluation.champion is not None
        assert evaluation.comparison is not None
        assert (evaluation.candidate.accuracy, evaluation.champion.accuracy) == (1.0, 0.5)
        assert (evaluation.comparison.gained, evaluation.comparison.lost) == (("t2",), ())
        assert evaluation.comparison.differences["accuracy"].value == 0.5
        assert "champion v_1: accuracy 0.5" in evaluation.note
        assert evaluation.shared is None
        assert evaluation.slices["label"]["dog"].champion is not None
        assert evaluation.slices["label"]["dog"].champion.accuracy == 0.0
        text = json.dumps(evaluation.to_dict(), allow_nan=False)
        assert Evaluation.from_dict(json.loads(text)) == evaluation

    def test_class_that_the_champion_does_not_know_is_its_miss(self, storage: Storage) -> None:
        candidate = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        champion = write_job(storage, "b", [row("t1", 0.9), row("t2", 0.2, "bird")])
        evaluation = evaluate(storage, candidate, champion=champion_of(champion, ("cat", "bird")))
        assert evaluation.champion is not None
        assert evaluation.champion.accuracy == 0.5
        assert evaluation.champion.confusion["dog"] == {"cat": 0, "dog": 0, "bird": 1}
        assert "it does not know dog, whose pictures count as its misses" in evaluation.note
        assert "; classes changed: added dog" in evaluation.note
        assert evaluation.shared is not None
        assert (evaluation.shared.classes, evaluation.shared.pictures) == (("cat",), 1)
        assert evaluation.shared.champion is not None
        assert evaluation.shared.champion.accuracy == 1.0

    def test_champion_with_the_classes_in_another_order_is_joined_by_name(self, storage: Storage) -> None:
        candidate = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        champion = write_job(storage, "b", [row("t1", 0.1, "cat"), row("t2", 0.8, "dog")])
        evaluation = evaluate(storage, candidate, champion=champion_of(champion, ("dog", "cat")))
        assert evaluation.champion is not None
        assert evaluation.champion.accuracy == 1.0

    def test_no_class_in_common_leaves_nothing_shared(self, storage: Storage) -> None:
        candidate = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        champion = write_job(storage, "b", [row("t1", 0.9, "fish"), row("t2", 0.2, "bird")])
        evaluation = evaluate(storage, candidate, champion=champion_of(champion, ("fish", "bird")))
        assert evaluation.shared == SharedClasses(classes=(), pictures=0, candidate=None, champion=None)

    def test_champion_without_our_metadata_is_not_compared_and_that_is_said(self, storage: Storage) -> None:
        candidate = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        evaluation = evaluate(storage, candidate, champion=Champion(version="v_1"))
        assert (evaluation.champion, evaluation.champion_version) == (None, "v_1")
        assert "carries no metadata of Graft's" in evaluation.note
        assert "only absolute rules are judged" in evaluation.note

    def test_champion_that_contradicts_its_labels_is_not_compared(self, storage: Storage) -> None:
        candidate = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        champion = write_job(storage, "b", [row("t1", 0.9, "bird"), row("t2", 0.8, "bird")])
        evaluation = evaluate(storage, candidate, champion=champion_of(champion))
        assert evaluation.champion is None
        assert "answers otherwise than its graft/labels.json says" in evaluation.note

    def test_champion_trained_on_todays_test_pictures_is_found_out(self, storage: Storage) -> None:
        uri = "gs://graft/datasets/d/d_0"
        dataset.write_rows(storage, uri, dataset.row("t1", "cat", split="train"), dataset.row("t2", "dog"))
        candidate = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        evaluation = evaluate(storage, candidate, champion=champion_of(candidate, dataset_uri=uri))
        assert evaluation.champion_saw == 1
        assert evaluation.shared is not None
        assert (evaluation.shared.pictures, evaluation.shared.trained_on) == (1, 1)
        assert "trained on 1 of today's 2 test pictures" in evaluation.note
        gone = champion_of(candidate, dataset_uri="gs://graft/datasets/d/gone")
        assert evaluate(storage, candidate, champion=gone).champion_saw is None

    def test_test_pictures_that_changed_their_label_are_named(self, storage: Storage) -> None:
        uri = "gs://graft/datasets/d/d_0"
        dataset.write_rows(storage, uri, dataset.row("t1", "dog"), dataset.row("t2", "dog"))
        candidate = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        champion = write_job(storage, "b", [row("t1", 0.1), row("t2", 0.1)])
        evaluation = evaluate(storage, candidate, champion=champion_of(champion, dataset_uri=uri))
        assert evaluation.note.endswith(
            "1 test pictures changed their label since (t1), which changed its accuracy by -0.5000"
        )

    @pytest.mark.parametrize(("changed", "named"), [(3, "(t0, t1, t2)"), (4, "(t0, t1, t2, ...)")])
    def test_at_most_three_pictures_that_changed_their_label_are_named(
        self, storage: Storage, changed: int, named: str
    ) -> None:
        keys = [f"t{number}" for number in range(9)]
        before = [dataset.row(key, "dog" if index < changed else "cat") for index, key in enumerate(keys)]
        dataset.write_rows(storage, "gs://graft/datasets/d/d_0", *before)
        dataset.write_rows(storage, DATASET, *(dataset.row(key, "cat") for key in keys))
        job = write_job(storage, "a", [row(key, 0.9) for key in keys])
        champion = champion_of(job, dataset_uri="gs://graft/datasets/d/d_0")
        assert (
            f"{changed} test pictures changed their label since {named}, which changed its accuracy by +"
            in (evaluate(storage, job, champion=champion).note)
        )

    def test_what_a_version_tells_about_itself_is_read_from_its_directory(self, storage: Storage) -> None:
        storage.write_json("gs://graft/deployed/graft/labels.json", ["cat", "dog"])
        models = [ModelDirectory(storage, f"gs://graft/{name}") for name in ("copied", "deployed")]
        lineage(dataset_uri=DATASET).write(storage, models[1].lineage)
        job = PredictionJob.of(write_job(storage, "b", [row("t1", 0.9)]))
        champion = read_champion("v_1", job, models)
        assert (champion.classes, champion.dataset_uri, champion.job) == (CLASSES, DATASET, "b")
        assert find_labels(models[:1]) is None


class TestFlippedLabels:
    """The always-on part of what a real run shows: a model trained on wrong labels, and its champion."""

    RULES = {
        "min_accuracy": 0.1,
        "change": {"accuracy": {"max_drop": 0.03}},
        "non_inferiority": {"margin": 0.05},
    }

    def decide(self, storage: Storage, *, wrong: int) -> GateDecision:
        keys = [f"p{index:03d}" for index in range(100)]
        rows = [dataset.row(key, CLASSES[index % 2]) for index, key in enumerate(keys)]
        dataset.write_rows(storage, DATASET, *rows)

        def answers(misses: int) -> list[dict[str, Any]]:
            right = [0.9 if index % 2 == 0 else 0.1 for index in range(100)]
            return [
                row(key, 1 - value if index < misses else value)
                for index, (key, value) in enumerate(zip(keys, right, strict=True))
            ]

        candidate = write_job(storage, "a", answers(wrong))
        champion = write_job(storage, "b", answers(2))
        evaluation = evaluate(storage, candidate, champion=champion_of(champion))
        return decide_gate(evaluation, GateConfig.model_validate(self.RULES))

    def test_are_refused_by_the_champion_rules_alone(self, storage: Storage) -> None:
        decision = self.decide(storage, wrong=30)
        assert not decision.accepted
        assert [reason.partition(":")[0] for reason in decision.reasons] == [
            "change.accuracy.max_drop",
            "non_inferiority",
            "not_worse",
            "class_drop",
        ]
        assert decision.rules[1].verdict == "passed"  # the floor

    def test_a_model_as_good_as_the_champion_passes(self, storage: Storage) -> None:
        assert self.decide(storage, wrong=2).accepted


def test_a_column_that_pictures_do_not_have_is_named(storage: Storage) -> None:
    job = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
    with pytest.raises(ConfigError, match="no column `camera`"):
        evaluate(storage, job, slices=["camera"])


class TestFile:
    def test_headline_is_small_and_read_back(self, storage: Storage) -> None:
        job = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        evaluation = evaluate(storage, job, champion=champion_of(job))
        brief = evaluation.headline()
        assert (brief.candidate.accuracy, brief.comparison, brief.slices) == (1.0, None, {})
        assert Evaluation.from_dict(json.loads(json.dumps(brief.to_dict()))) == brief

    def test_size_and_speed_of_the_model_are_measured(self, storage: Storage) -> None:
        job = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        storage.write_bytes("gs://graft/m/saved_model.pb", b"x" * 3000)
        job["predictionInput"]["uri"] = "gs://graft/m"
        job |= {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T00:00:03Z"}
        evaluation = evaluate(storage, job)
        assert (evaluation.size_mb, evaluation.batch_ms_per_picture) == (0.003, 1500.0)

    def test_of_a_later_graft_is_refused(self, storage: Storage) -> None:
        storage.write_json("gs://graft/e.json", {"schema": 99})
        with pytest.raises(FormatTooNew, match="has the format 99; this version of Graft reads up to 2"):
            Evaluation.read(storage, "gs://graft/e.json")


def test_report_shows_candidate_baseline_and_confusion(storage: Storage) -> None:
    job = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.8)])
    evaluation = evaluate(storage, job)
    text = evaluation_report(evaluation)
    assert "accuracy 0.5000 (95 % interval" in text
    assert FIRST_VERSION in text
    assert confusion_table(evaluation.candidate).splitlines()[-1] == "| dog | 1 | 0 |"
