"""Fetch and clean as tasks: the data gate's outcomes, and the event of a new dataset version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from pipeline.artifacts.dataset import read_latest
from pipeline.storage import Storage
from tests.fakes.pictures import folder_of
from tests.fakes.rows import dataset_folder

AFTER = ["approve", "create_version", "evaluate", "gate", "promote", "publish", "smoke_test", "train"]


class Events(dict[Any, Any]):
    """`outlet_events` of a task: what was added to an alias."""

    def __missing__(self, key: Any) -> Any:
        added: list[Any] = []
        self[key] = SimpleNamespace(added=added, add=lambda asset, extra: added.append((asset, extra)))
        return self[key]

    @property
    def added(self) -> list[Any]:
        return [event for accessor in self.values() for event in accessor.added]


class Cleaner:
    """Runs fetch and clean over a folder, each run with its own id."""

    def __init__(self, toys: Path, make_context: Callable[..., Any], notes: list[str]) -> None:
        self.toys, self.notes, self.runs = toys, notes, 0
        self.make_context = make_context
        self.context: dict[str, Any] = {}

    def run(self, conf: dict[str, Any] | None = None, *, again: bool = False, **expect: Any) -> Any:
        from graft.operators.dataset import FetchPicturesOperator
        from graft.training_dag import build_training_dag

        from pipeline.config import Classifier

        source = {"type": "folder", "uri": str(self.toys)}
        yaml = {"name": "toys", "dataset": {"source": source, "expect": expect}}
        self.runs += not again
        self.context = {**self.make_context(conf), "outlet_events": Events()}
        self.context["ti"].run_id = f"run {self.runs}"
        fetched = FetchPicturesOperator(task_id="fetch", classifier=yaml).execute(self.context)
        task = build_training_dag(Classifier.from_dict(yaml)).get_task("clean")
        task.fetched = fetched  # type: ignore[attr-defined]
        return task.execute(self.context)  # type: ignore[union-attr]

    @property
    def events(self) -> list[Any]:
        events: list[Any] = self.context["outlet_events"].added
        return events

    def shrink(self) -> None:
        for number in range(8):
            (self.toys / "ant" / f"{number:04d}.png").unlink()


@pytest.fixture
def cleaner(
    tmp_path: Path, storage: Storage, make_context: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Cleaner:
    from graft.hooks.airflow_api import AirflowApiHook

    notes: list[str] = []
    monkeypatch.setattr(AirflowApiHook, "write_run_note", lambda self, dag, run, note: notes.append(note))
    return Cleaner(folder_of(tmp_path / "toys", {"ant": 20, "cat": 20}), make_context, notes)


def latest(storage: Storage) -> str | None:
    return read_latest(dataset_folder(storage)).version


class TestEvents:
    def test_a_new_version_is_an_event_with_what_is_in_it(self, cleaner: Cleaner) -> None:
        result = cleaner.run()
        [(asset, extra)] = cleaner.events
        assert asset.uri == "graft://datasets/toys"
        assert extra["version"] == result["version"]
        assert (extra["run_id"], extra["pictures"], extra["classes"]) == ("run 1", 40, {"ant": 20, "cat": 20})

    def test_an_unchanged_dataset_is_none(self, cleaner: Cleaner) -> None:
        cleaner.run()
        cleaner.run()
        assert cleaner.events == []

    def test_a_second_try_tells_again_what_the_first_may_not_have_told(self, cleaner: Cleaner) -> None:
        cleaner.run()
        cleaner.run(again=True)
        assert len(cleaner.events) == 1


class TestDataGate:
    def test_a_warning_goes_on_and_is_in_the_result(self, cleaner: Cleaner, storage: Storage) -> None:
        cleaner.run()
        cleaner.shrink()
        result = cleaner.run()
        reason = "class_loss (warn): ant shrank from 20 to 12 pictures (40%, over 30%)"
        assert result["expect"] == {"outcome": "warn", "reasons": [reason]}
        assert latest(storage) == result["version"]
        assert len(cleaner.events) == 1
        assert cleaner.run(again=True)["expect"] == result["expect"]
        assert cleaner.run()["expect"] == {"outcome": "ok", "reasons": []}

    def test_skip_ends_the_run_green_and_skips_all_that_follows(
        self, cleaner: Cleaner, storage: Storage
    ) -> None:
        first = cleaner.run()
        cleaner.shrink()
        for _ in range(2):
            with pytest.raises(DownstreamTasksSkipped) as caught:
                cleaner.run(class_loss="skip")
            assert [task for task in caught.value.tasks if isinstance(task, str)] == AFTER
            assert {task for task in caught.value.tasks if not isinstance(task, str)} == {
                ("pack", 0),
                ("pack", 1),
            }
            held = cleaner.context["ti"].pushed["return_value"]
            assert held["version"] != first["version"]
            assert latest(storage) == first["version"]
            assert cleaner.events == []
        assert held["decoded"] == 0
        summary = storage.read_json("gs://graft/runs/toys/run%203/summary.json")
        assert (summary["state"], summary["version"], summary["gate"]) == ("skipped", None, None)
        assert summary["dataset"]["version"] == held["version"]
        assert summary["expect"]["outcome"] == "skip"
        assert summary["work"]["forwarded"] == 0
        assert "Skipped by the data gate" in cleaner.notes[-1]
        assert "ant shrank from 20 to 12" in cleaner.notes[-1]

    def test_fail_fails_the_run_and_keeps_the_version_to_be_looked_at(
        self, cleaner: Cleaner, storage: Storage
    ) -> None:
        first = cleaner.run()
        cleaner.shrink()
        with pytest.raises(AirflowFailException, match="ExpectationFailed: .*ant shrank from 20 to 12"):
            cleaner.run(class_loss="fail")
        assert latest(storage) == first["version"]
        cards = [uri for uri in storage.list_uris("gs://graft/datasets/toys/") if uri.endswith("card.html")]
        assert len(cards) == 2

    def test_a_run_parameter_lets_a_wanted_change_through(self, cleaner: Cleaner, storage: Storage) -> None:
        cleaner.run()
        cleaner.shrink()
        with pytest.raises(DownstreamTasksSkipped):
            cleaner.run(class_loss="skip")
        result = cleaner.run({"dataset.expect.class_loss": "warn"}, class_loss="skip")
        assert latest(storage) == result["version"]
        assert len(cleaner.events) == 1
        assert cleaner.run(class_loss="skip")["expect"]["outcome"] == "ok"

    def test_a_first_version_can_be_held_back(self, cleaner: Cleaner, storage: Storage) -> None:
        for _ in range(2):
            with pytest.raises(DownstreamTasksSkipped):
                cleaner.run(few_pictures="skip", min_pictures=30)
        assert latest(storage) is None
