from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import EvaluationError, PredictionJoinError
from pipeline.evaluate.evaluation import FIRST_VERSION, Evaluation, evaluate_model
from pipeline.evaluate.predictions import join_predictions, read_predictions, read_test_labels
from pipeline.evaluate.report import confusion_table, evaluation_report
from pipeline.storage import Storage

DATASET = "gs://graft/datasets/d/d_1"
CLASSES = ("cat", "dog")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage({"graft": tmp_path})
    rows = [
        {"id": "t1", "label": "cat", "split": "test", "status": "kept"},
        {"id": "t2", "label": "dog", "split": "test", "status": "kept"},
        {"id": "x1", "label": "dog", "split": "test", "status": "quarantined"},
        {"id": "x2", "label": "dog", "split": "train", "status": "kept"},
    ]
    storage.write_bytes(f"{DATASET}/manifest.jsonl", "\n".join(map(json.dumps, rows)).encode())
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


def evaluate(storage: Storage, job: dict[str, Any], **champion: Any) -> Evaluation:
    return evaluate_model(storage, dataset_uri=DATASET, classes=CLASSES, candidate_job=job, **champion)


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
            join_predictions(rows, ["t1", "t2"])

    def test_error_lists_only_a_few_keys(self) -> None:
        with pytest.raises(PredictionJoinError, match=r"9 missing \(k0, k1, k2, \.\.\.\)"):
            join_predictions([], [f"k{index}" for index in range(9)])

    def test_only_kept_test_pictures_count(self, storage: Storage) -> None:
        assert read_test_labels(storage, DATASET) == {"t1": "cat", "t2": "dog"}


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

    def test_champion_is_measured_on_the_same_pictures(self, storage: Storage) -> None:
        candidate = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        champion = write_job(storage, "b", [row("t1", 0.9), row("t2", 0.8)])
        evaluation = evaluate(storage, candidate, champion_version="v_1", champion_job=champion)
        assert evaluation.champion is not None
        assert (evaluation.candidate.accuracy, evaluation.champion.accuracy) == (1.0, 0.5)
        assert "champion v_1: accuracy 0.5" in evaluation.note
        assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation

    def test_champion_of_other_classes_is_not_compared(self, storage: Storage) -> None:
        candidate = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.1)])
        champion = write_job(storage, "b", [row("t1", 0.9, "bird"), row("t2", 0.8, "bird")])
        evaluation = evaluate(storage, candidate, champion_version="v_1", champion_job=champion)
        assert evaluation.champion is None
        assert evaluation.champion_version == "v_1"
        assert "knows other classes" in evaluation.note


def test_report_shows_candidate_baseline_and_confusion(storage: Storage) -> None:
    job = write_job(storage, "a", [row("t1", 0.9), row("t2", 0.8)])
    evaluation = evaluate(storage, job)
    text = evaluation_report(evaluation)
    assert "accuracy 0.5000 (95 % interval" in text
    assert FIRST_VERSION in text
    assert confusion_table(evaluation.candidate).splitlines()[-1] == "| dog | 1 | 0 |"
