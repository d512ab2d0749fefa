from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.artifacts.record import Record
from pipeline.artifacts.steps import (
    CleanResult,
    DatasetResult,
    FetchResult,
    PackResult,
    Promotion,
    PromotionResult,
    SmokeTestResult,
    TrainResult,
    VersionResult,
)
from pipeline.errors import RecordInvalid

CLEAN: dict[str, Any] = {
    "dataset": "m",
    "version": "d_1",
    "uri": "gs://graft/datasets/m/d_1",
    "classes": {"cat": 2, "ant": 1},
    "pictures": 3,
    "test_pictures": 1,
    "train_pictures": 2,
    "rejected": {"too_small": 1},
    "decoded": 4,
    "warnings": [],
    "expect": {"outcome": "ok", "reasons": []},
    "new": True,
}
PLAN: dict[str, Any] = {
    "pack_index": "gs://graft/packs/d_1/s.json",
    "pack_items": [0, "test"],
    "classifier": {"name": "m"},
}
RESULTS: list[tuple[type[Record], dict[str, Any]]] = [
    (
        FetchResult,
        {
            "index": "gs://graft/datasets/m/fetched/00000.jsonl",
            "downloaded": 2,
            "found": 3,
            "reused": 1,
            "refused": {"gone": 1},
            "requests": 4,
        },
    ),
    (CleanResult, CLEAN),
    (DatasetResult, CLEAN | PLAN | {"gate_preview": ["40 test pictures"]}),
    (PackResult, {"decoded": 2, "written": 1}),
    (
        TrainResult,
        {
            "job": "graft_1",
            "model_uri": "gs://graft/jobs/graft_1/model",
            "classes": ["cat", "ant"],
            "forwarded": 2,
            "cached": 0,
            "package_uri": "gs://graft/packages/p.tar.gz",
            "package": {"version": "0.1.0", "file": "x"},
            "weights_uri": "gs://graft/weights/w",
            "head_uri": None,
            "runtime_version": "2.21",
            "tuning": None,
        },
    ),
    (VersionResult, {"model": "m", "version": "v_1", "state": "READY", "deployment_uri": "gs://graft/x"}),
    (
        SmokeTestResult,
        {
            "pictures": 4,
            "max_difference": 0.0,
            "slowest_seconds": 0.1,
            "answers": 20,
            "median_ms": 30.0,
            "p95_ms": 40.0,
            "latency": None,
            "override": {"by": "Ada", "reason": "demo"},
        },
    ),
    (PromotionResult, {"promotion": "promoted", "previous": None}),
]


@pytest.mark.parametrize(("kind", "value"), RESULTS, ids=lambda part: getattr(part, "__name__", ""))
class TestResults:
    def test_go_through_xcom_as_json_and_come_back_equal(
        self, kind: type[Record], value: dict[str, Any]
    ) -> None:
        result = kind.from_dict(value)
        assert json.loads(json.dumps(result.to_dict())) == value
        assert all(type(plain) in (str, int, float, bool, list, dict, type(None)) for plain in value.values())
        assert kind.from_dict(result.to_dict()) == result

    def test_refuse_a_key_they_do_not_have(self, kind: type[Record], value: dict[str, Any]) -> None:
        with pytest.raises(RecordInvalid, match="no_such_key"):
            kind.from_dict({**value, "no_such_key": 1})

    def test_name_a_key_that_is_missing(self, kind: type[Record], value: dict[str, Any]) -> None:
        first = next(iter(value))
        with pytest.raises(RecordInvalid, match=first):
            kind.from_dict({name: item for name, item in value.items() if name != first})


def test_a_planned_dataset_is_its_version_and_its_plan() -> None:
    planned = DatasetResult.plan(CleanResult.from_dict(CLEAN), **PLAN)
    assert planned.to_dict() == CLEAN | PLAN | {"gate_preview": []}


def test_the_order_of_classes_survives_xcom() -> None:
    assert list(CleanResult.from_dict(json.loads(json.dumps(CLEAN))).classes) == ["cat", "ant"]


def test_a_promotion_is_read_as_what_it_is() -> None:
    result = PromotionResult.from_dict({"promotion": "superseded", "previous": "v_0"})
    assert result.promotion is Promotion.SUPERSEDED
