"""What a comparison job is told, and that no head is judged on what trained it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.held_out_answers import ComparisonRecord, ComparisonSpec, HeldOutAnswers, OptionCost
from pipeline.artifacts.training import FeatureWork
from pipeline.storage import Storage
from pipeline.trainer import comparison as module, logistic
from pipeline.trainer.cross_fit import cross_fit
from pipeline.trainer.cross_validation import FOLDS, hold_out
from tests.unit.pipeline.trainer.test_fitting import SPEC, pictures

LOGISTIC = replace(SPEC, head_type="logistic")


def test_the_options_are_read_back_from_the_command_line() -> None:
    spec = ComparisonSpec(
        base=SPEC, options=(SPEC, LOGISTIC, replace(SPEC, epochs=3, head_module="gs://b/h.py"))
    )
    assert ComparisonSpec.from_args(spec.to_args()) == spec


@pytest.mark.parametrize("name", ["comparison", "study_trial"])
def test_the_arguments_are_read_before_numpy_is(name: str) -> None:
    """NumPy reads how many threads it may use when it is imported: with more, a head took far longer."""
    code = f"import sys, pipeline.trainer.{name}; print({{'numpy', 'tensorflow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_a_job_leaves_is_read_back(tmp_path: Path) -> None:
    job = JobDirectory(Storage({"graft": tmp_path}), "gs://graft/jobs/1")
    answers = HeldOutAnswers(
        ids=np.array([b"a", b"b"], "S64"),
        labels=np.array([0, 1]),
        folds=np.array([0, 1]),
        outputs=np.ones((3, 2, 2), np.float32),
    )
    answers.write(job)
    assert all(np.array_equal(getattr(HeldOutAnswers.read(job), name), getattr(answers, name))
               for name in ("ids", "labels", "folds", "outputs"))  # fmt: skip
    record = ComparisonRecord(
        classes=("ant", "würfel"),
        options=(OptionCost(head_bytes=1, head_cpu_ms=0.1, fit_cpu_seconds=2.0),),
        network_bytes=5,
        network_cpu_ms=1.0,
        latency_ms=2.0,
        work=FeatureWork(forwarded=1, cached=2),
    )
    record.write(job)
    assert ComparisonRecord.read(job) == record


@pytest.mark.parametrize("option", [SPEC, LOGISTIC])
def test_a_picture_is_judged_by_a_head_that_neither_it_nor_a_copy_of_it_trained(
    option: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "CANDIDATES", (1.0, 10.0))  # each is fitted 25 times
    made = pictures(drawn=option is SPEC, copies=2)
    folds = hold_out(made.pool, seed=SPEC.seed)
    assert folds is not None
    trainer: Any = SimpleNamespace(index=SimpleNamespace(classes=["a", "b", "c"]), storage=Storage({}))

    def answers(labels: Any) -> Any:
        trained = replace(made, pool=replace(made.pool, labels=labels))
        return cross_fit(trainer, option, trained, folds).outputs

    first = answers(made.pool.labels)
    # Other labels of one fold change the heads that judge the others, and never the one that judges it.
    wrong = made.pool.labels.copy()
    wrong[np.tile(folds == 0, 2)] = (wrong[np.tile(folds == 0, 2)] + 1) % 3
    second = answers(wrong)
    assert np.array_equal(first[folds == 0], second[folds == 0])
    assert not np.array_equal(first[folds == 1], second[folds == 1])
    assert (first.argmax(1) == made.pool.labels[: len(folds)]).mean() > 0.5


def test_what_is_left_out_is_left_out_with_its_copies_and_draws() -> None:
    made = pictures(drawn=True, copies=3)
    rows = np.arange(60) < 6
    left = made.leave_out(rows)
    assert left.pool.copies == 3
    assert left.pool.ids == made.pool.ids[6:]
    assert np.array_equal(left.pool.features, made.pool.features[np.tile(~rows, 3)])
    assert left.drawn is not None
    assert left.drawn.sum() == 10  # of twelve, two are among the first six
    assert made.leave_out(made.drawn).drawn is None


def test_the_costs_of_a_head_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "CANDIDATES", (1.0,))
    made = pictures(drawn=False)
    trainer: Any = SimpleNamespace(index=SimpleNamespace(classes=["a", "b", "c"]), storage=Storage({}))
    _, cost = module._judge(trainer, LOGISTIC, made, np.arange(60) % FOLDS)
    assert cost.head_bytes == 4 * (12 * 3 + 3)
    assert cost.fit_cpu_seconds > 0


@pytest.mark.parametrize(
    ("changes", "num_collected"),
    [
        ({"seed": 7, "epochs": 3, "units": 4}, 1),
        ({"views": 2}, 2),
        ({"validation_fraction": 0.2}, 2),
    ],
)
def test_pictures_are_collected_again_only_for_an_option_that_trains_on_others(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], num_collected: int
) -> None:
    made, collected = pictures(drawn=False), []
    monkeypatch.setattr(
        module,
        "collect_training_pictures",
        lambda trainer, option, trunk: collected.append(option) or made,
    )
    base = replace(SPEC, validation_fraction=0.0, epochs=1)
    spec = ComparisonSpec(base=base, options=(base, replace(base, **changes)))
    trainer: Any = SimpleNamespace(index=SimpleNamespace(classes=["a", "b", "c"]), storage=Storage({}))
    trunk: Any = None
    answers, costs, _ = module._answer(trainer, spec, trunk)
    assert len(collected) == num_collected
    assert answers.outputs.shape == (2, 60, 3)
    assert len(costs) == 2
