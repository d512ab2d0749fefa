"""Records of earlier versions of Graft are read; those of later ones are refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.gate import GateDecision, Override
from pipeline.artifacts.history import EventType, HistoryEvent, read_history, record_event
from pipeline.artifacts.metrics import Metrics
from pipeline.artifacts.model_record import Approval, Lineage, decided_by, read_labels, read_lineage
from pipeline.artifacts.record import Record
from pipeline.artifacts.run_summary import RunSummary
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import FormatTooNew, RecordInvalid
from pipeline.storage import Storage
from tests.fakes.evaluation import evaluation, metrics, pairs, part
from tests.fakes.model_record import decision, lineage, run_summary

OLD_METRICS = {
    "accuracy": 0.9,
    "accuracy_ci95": [0.7, 0.95],
    "loss": 0.3,
    "test_pictures": 10,
    "confusion": {"cat": {"cat": 9, "dog": 1}},
}
OLD_LINEAGE: dict[str, Any] = {
    "classifier": {"name": "m", "serving": {"reject_below": 0.5}},
    "run_id": "r",
    "dataset": {"dataset": "m", "version": "d_1", "uri": "gs://graft/datasets/m/d_1", "classes": {"cat": 3}},
    "training": {
        "job": "t",
        "model_uri": "gs://graft/jobs/t/model",
        "classes": ["cat"],
        "forwarded": 1,
        "cached": 2,
        "package_uri": "gs://p",
        "package": {"version": "1", "file": "x"},
        "weights_uri": "gs://w",
    },
    "evaluation_job": "e",
    "champion": None,
    "gate": {
        "accepted": True,
        "reasons": [],
        "metrics": OLD_METRICS,
        "thresholds": {"absolute.accuracy.min": 0.8},
        "baseline": None,
        "note": "first version",
    },
}
OLD_SUMMARY = {
    "classifier": "m",
    "run_id": "r",
    "state": "rejected",
    "dataset": {"version": "d_1", "pictures": 3, "classes": {"cat": 3}},
    "work": {"downloaded": 0, "decoded": 0, "forwarded": 0, "cached": 0},
    "evaluation": {
        "accuracy": 0.9,
        "accuracy_ci95": [0.7, 0.95],
        "loss": 0.3,
        "test_pictures": 10,
        "job": "e",
    },
    "gate": {
        "accepted": True,
        "reasons": [],
        "approval": {"approved": False, "by": "Ada", "reason": "", "at": "2026-01-01"},
    },
    "version": None,
    "expect": {"outcome": "warn", "reasons": ["class_loss (warn): cat shrank"]},
    "ended_by": "approve",
}
OLD_EVENT = {
    "event": "promoted",
    "version": "v_1",
    "previous": None,
    "run_id": "r",
    "dataset_version": "d_1",
    "accuracy": 0.9,
    "decided_by": "gate",
    "at": "2026-01-01T00:00:00.000+00:00",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(Storage({"graft": tmp_path}), "gs://graft")


class TestOlderFiles:
    def test_of_a_lineage_are_read_without_what_was_not_recorded_then(self, workspace: Workspace) -> None:
        model = workspace.model("m", "v_1")
        workspace.storage.write_json(model.lineage, OLD_LINEAGE)
        found = read_lineage(model)
        assert found is not None
        assert (found.gate.rules, found.approval, found.requirements) == ((), None, None)
        assert (found.training.head_uri, found.training.runtime_version) == (None, None)
        assert (found.decided_by, found.reject_below("cat")) == ("gate", 0.5)
        assert workspace.list_model_versions("m") == ["v_1"]

    def test_of_a_lineage_with_thresholds_bound_the_classes_that_have_one(self, workspace: Workspace) -> None:
        model = workspace.model("m", "v_1")
        serving = {"reject_below": 0.5, "thresholds": {"cat": 0.8}}
        classifier = {"name": "m", "serving": serving}
        workspace.storage.write_json(model.lineage, {**OLD_LINEAGE, "classifier": classifier})
        found = read_lineage(model)
        assert found is not None
        assert [found.reject_below(label) for label in ("cat", "dog")] == [0.8, 0.5]

    def test_of_a_summary_are_read(self) -> None:
        found = RunSummary.from_dict(OLD_SUMMARY)
        assert found.line == "rejected by Ada: no reason given"
        assert found.data_gate_lines == ["Data gate: class_loss (warn): cat shrank"]
        assert found.to_dict() == {"format": 1, **OLD_SUMMARY}

    def test_of_an_event_are_read(self) -> None:
        assert HistoryEvent.from_dict(OLD_EVENT).to_dict() == {"format": 1, **OLD_EVENT}

    def test_of_an_evaluation_are_read_without_a_comparison(self) -> None:
        value = {"job": "e", "classes": ["cat"], "candidate": OLD_METRICS, "note": "first version"}
        found = Evaluation.from_dict({**value, "champion_version": None, "champion_job": None, "further": 1})
        assert (found.candidate.scores, found.comparison, found.slices) == ({}, None, {})

    def test_of_a_lock_are_read(self, workspace: Workspace) -> None:
        from pipeline.deploy.lock import acquire_lock
        from tests.fakes.clock import FakeClock

        clock = FakeClock()
        folder = workspace.classifier("m").lock("promotions")
        held = {"at": clock.now(), "holder": "promote v_1", "try": "1"}
        workspace.storage.write_json(f"{folder}/000000001.json", held)
        with acquire_lock(workspace, "m", holder="promote v_1", clock=clock) as lock:
            assert (lock.number, lock.is_valid) == (1, True)


@pytest.mark.parametrize("kind", [Evaluation, Lineage, HistoryEvent, RunSummary])
def test_a_file_of_a_later_format_is_refused_by_name(kind: type[Record], workspace: Workspace) -> None:
    workspace.storage.write_json("gs://graft/file.json", {kind.FORMAT_KEY: 99})
    with pytest.raises(FormatTooNew, match=f"The {kind.__name__} has the format 99"):
        kind.read(workspace.storage, "gs://graft/file.json")


def test_what_is_no_record_is_refused_with_the_fields_that_are_wrong() -> None:
    with pytest.raises(RecordInvalid, match=r"(?s)This is no Metrics: .*loss"):
        Metrics.from_dict({**OLD_METRICS, "loss": "much"})


@pytest.mark.parametrize(
    "record",
    [
        lineage(gate=replace(decision(), override=Override(by="Ada", reason="must"))),
        run_summary(),
        evaluation(
            champion=metrics(),
            comparison=pairs(1, 2, 40, loss=(-0.1, 0.1)),
            slices={"source": {"web": part(0.9, champion={"accuracy": 0.8})}},
        ),
        HistoryEvent(event=EventType.REJECTED, version="v", run_id="r", by="Ada", reason=""),
    ],
    ids=lambda record: type(record).__name__,
)
def test_records_come_back_as_they_were(record: Record, workspace: Workspace) -> None:
    record.write(workspace.storage, "gs://graft/file.json")
    assert type(record).read(workspace.storage, "gs://graft/file.json") == record
    written = workspace.storage.read_json("gs://graft/file.json")
    assert written.keys() - record.to_dict().keys() == ({"sha256"} if record.IS_SIGNED else set())
    assert {**written, **record.to_dict()} == written


def test_counts_stay_integers_in_json() -> None:
    from pipeline.config import GateConfig
    from pipeline.evaluate.gate import decide_gate

    [rule, *_] = decide_gate(evaluation(), GateConfig.model_validate({"min_test_pictures": 5})).rules
    assert [str(rule.to_dict()[name]) for name in ("value", "limit")] == ["40", "5"]
    assert str(GateDecision.from_dict(decision().to_dict()).metrics.test_pictures) == "40"


@pytest.mark.parametrize(
    ("override", "approved_by", "expected"),
    [(None, None, "gate"), ("Ada", None, "Ada"), ("Ada", "Bob", "Bob"), (None, "Bob", "Bob")],
)
def test_who_decided_is_the_last_person_or_the_gate(
    override: str | None, approved_by: str | None, expected: str
) -> None:
    gate = replace(decision(), override=Override(by=override, reason="must") if override else None)
    approval = Approval(approved=True, by=approved_by, reason="", at="") if approved_by else None
    assert decided_by(gate, approval) == expected


def test_a_model_of_somebody_else_has_neither_lineage_nor_labels(workspace: Workspace) -> None:
    model = workspace.model("m", "v_1")
    assert read_lineage(model) is None
    assert read_labels(model) is None


def test_an_event_is_stored_with_its_time_and_read_back(workspace: Workspace) -> None:
    event = HistoryEvent(event=EventType.PROMOTED, version="v_1", run_id="r", decided_by="gate")
    stored = record_event(workspace, "m", event)
    assert stored.at
    assert (stored.person, read_history(workspace, "m")) == ("gate", [stored])
