"""What starts a run decides what it does: the retrain guard, older dataset versions, bursts of events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskDeferred

from pipeline.artifacts.dataset import read_info
from pipeline.artifacts.steps import FetchResult
from pipeline.artifacts.takedowns import Takedown, write_takedowns
from pipeline.artifacts.workspace import Workspace
from pipeline.storage import Storage
from tests.fakes.evaluation import metrics
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.model_record import decision, lineage
from tests.fakes.pictures import folder_of
from tests.fakes.rows import dataset_folder, manifest_rows
from tests.unit.plugins.test_dataset_operators import AFTER, Events

METRICS = replace(metrics(0.9, loss=0.3, test_pictures=8), accuracy_ci95=(0.8, 0.95))


class Runs:
    """Fetches and cleans a folder in runs of any kind, and makes versions of what came out."""

    def __init__(
        self, toys: Path, storage: Storage, engine: FakeMLEngine, make_context: Callable[..., Any]
    ) -> None:
        self.toys, self.storage, self.engine, self.make_context = toys, storage, engine, make_context
        self.notes: list[str] = []
        self.sections: dict[str, Any] = {}
        self.number = 0
        engine.ensure_model("toys")

    @property
    def yaml(self) -> dict[str, Any]:
        source = {"type": "folder", "uri": str(self.toys)}
        return {"name": "toys", "dataset": {"source": source}, **self.sections}

    def run(self, kind: str = "scheduled", conf: dict[str, Any] | None = None, **run: Any) -> Any:
        from graft.operators.dataset import FetchPicturesOperator
        from graft.training_dag import build_training_dag

        from pipeline.config import Classifier

        self.number += 1
        context = {**self.make_context(conf, task_id="clean"), "outlet_events": Events()}
        context["dag_run"] = SimpleNamespace(conf=conf or {}, run_type=kind, **run)
        context["ti"].run_id = f"run {self.number}"
        self.fetched = FetchPicturesOperator(task_id="fetch", classifier=self.yaml).execute(context)
        task: Any = build_training_dag(Classifier.from_dict(self.yaml)).get_task("clean")
        task.fetched = self.fetched
        return task.execute(context)

    def deploy(self, version: str, dataset: dict[str, Any]) -> None:
        """Make a version of a dataset version and give it the traffic."""
        made_of = lineage(
            run_id=f"run of {version}",
            dataset_version=dataset["version"],
            evaluation_job=f"graft_{version}",
            gate=replace(decision(), metrics=METRICS),
        )
        made_of = replace(made_of, classifier=dataset["classifier"])
        made_of.write(self.storage, f"gs://graft/models/toys/{version}/graft/lineage.json")
        self.engine.create_version("toys", {"name": version})
        self.engine.set_default("toys", version)

    def skipped(self, kind: str = "scheduled", conf: dict[str, Any] | None = None, **run: Any) -> Any:
        """Return the summary of a run that ends in `clean`."""
        with pytest.raises(DownstreamTasksSkipped) as caught:
            self.run(kind, conf, **run)
        names = {task[0] if isinstance(task, tuple) else task for task in caught.value.tasks}
        assert names == {*AFTER, "pack"}
        return self.storage.read_json(f"gs://graft/runs/toys/run%20{self.number}/summary.json")

    def add_picture(self) -> None:
        folder_of(self.toys.parent / "more", {"ant": 30})
        new = sorted((self.toys.parent / "more" / "ant").iterdir())[-1]
        new.rename(self.toys / "ant" / "new.png")


@pytest.fixture
def runs(
    tmp_path: Path,
    storage: Storage,
    engine: FakeMLEngine,
    make_context: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Runs:
    from graft.hooks.airflow_api import AirflowApiHook

    toys = folder_of(tmp_path / "toys", {"ant": 20, "cat": 20})
    runs = Runs(toys, storage, engine, make_context)
    monkeypatch.setattr(
        AirflowApiHook, "write_run_note", lambda self, dag, run, note: runs.notes.append(note)
    )
    return runs


class TestRetrainGuard:
    @pytest.mark.parametrize("kind", [DagRunType.SCHEDULED, DagRunType.ASSET_TRIGGERED])
    def test_ends_a_run_that_has_nothing_new_green_and_says_so(self, runs: Runs, kind: Any) -> None:
        runs.deploy("v_1", runs.run())
        summary = runs.skipped(kind)
        assert (summary["state"], summary["skipped"], summary["version"]) == ("skipped", True, "v_1")
        assert summary["evaluation"] == {
            "accuracy": 0.9,
            "accuracy_ci95": [0.8, 0.95],
            "loss": 0.3,
            "test_pictures": 8,
            "job": "graft_v_1",
        }
        assert summary["gate"] == {"accepted": True, "reasons": []}
        assert summary["work"] == {"downloaded": 0, "decoded": 0, "forwarded": 0, "cached": 0}
        assert summary["dataset"]["pictures"] == 40
        assert runs.notes[-1].startswith("**Nothing new; nothing was trained.**\n\n`v_1` serves, and")

    def test_lets_runs_by_hand_train(self, runs: Runs) -> None:
        runs.deploy("v_1", runs.run())
        assert runs.run("manual")["version"]

    @pytest.mark.parametrize("kind", ["manual", "scheduled"])
    def test_does_as_a_run_says(self, runs: Runs, kind: str) -> None:
        runs.deploy("v_1", runs.run())
        assert runs.run(kind, {"retrain.unchanged": "train"})["version"]
        assert runs.skipped(kind, {"retrain.unchanged": "skip"})["version"] == "v_1"

    def test_lets_a_first_run_train(self, runs: Runs) -> None:
        assert runs.run()["new"]

    def test_lets_one_new_picture_train_and_its_cost_follows_it(self, runs: Runs) -> None:
        runs.deploy("v_1", runs.run())
        runs.add_picture()
        dataset = runs.run()
        assert (dataset["pictures"], dataset["decoded"], runs.fetched["downloaded"]) == (41, 1, 1)

    @pytest.mark.parametrize(
        "sections", [{"model": {"epochs": 3}}, {"serving": {"reject_below": 0.5}}], ids=["model", "serving"]
    )
    def test_lets_other_parameters_train(self, runs: Runs, sections: dict[str, Any]) -> None:
        runs.deploy("v_1", runs.run())
        runs.sections = sections
        assert runs.run()["version"]

    def test_takes_a_default_that_is_written_out_for_the_same(self, runs: Runs) -> None:
        runs.deploy("v_1", runs.run())
        runs.sections = {"model": {"epochs": 20}, "schedule": "@daily", "gate": {"min_accuracy": 0.3}}
        assert runs.skipped()["version"] == "v_1"

    def test_does_not_make_again_what_a_person_rolled_back(self, runs: Runs, storage: Storage) -> None:
        from pipeline.deploy.rollback import rollback_version

        runs.deploy("v_1", runs.run())
        runs.add_picture()
        runs.deploy("v_2", runs.run())
        rollback_version(
            Workspace(storage, "gs://graft"),
            runs.engine,
            model="toys",
            to="v_1",
            by="Ada",
            reason="it mistakes ants",
        )
        summary = runs.skipped()
        assert summary["version"] == "v_1"
        assert "`v_2` was made of the same dataset version" in runs.notes[-1]
        assert "Ada rolled it back: it mistakes ants" in runs.notes[-1]
        assert runs.run("manual")["version"]

    def test_lets_a_run_train_where_the_champion_says_nothing_or_is_from_another_release(
        self, runs: Runs, storage: Storage
    ) -> None:
        dataset = runs.run()
        runs.deploy("v_1", {**dataset, "classifier": {**dataset["classifier"], "old_key": 1}})
        assert runs.run()["version"] == dataset["version"]
        storage.delete_tree("gs://graft/models/toys/v_1")
        assert runs.run()["version"] == dataset["version"]


class TestGateThatNoModelCanPass:
    @pytest.mark.parametrize(
        ("gate", "reason"),
        [
            ({"first_version": "refuse"}, "first_version: this gate takes no first version from a run"),
            ({"min_test_pictures": 99}, "min_test_pictures: 8 test pictures, the limit is 99"),
        ],
    )
    def test_ends_the_run_before_anything_is_trained(
        self, runs: Runs, gate: dict[str, Any], reason: str
    ) -> None:
        runs.sections = {"gate": {"min_accuracy": 0.5, **gate}}
        summary = runs.skipped("manual")
        assert (summary["state"], summary["evaluation"], summary["version"]) == ("refused", None, None)
        assert summary["gate"] == {"accepted": False, "reasons": [reason]}
        note = runs.notes[-1]
        assert note.startswith(f"**Refused before training: no model can pass this gate.**\n\n{reason}\n\n")
        assert "8 test pictures: the smallest margin of `non_inferiority`" in note

    def test_goes_on_where_a_person_overrides_it(self, runs: Runs) -> None:
        runs.sections = {"gate": {"min_accuracy": 0.5, "min_test_pictures": 99}}
        conf = {"gate.override_by": "Ada", "gate.override_reason": "demo"}
        assert runs.run("manual", conf)["version"]

    def test_that_takes_no_first_version_is_not_paid_for_by_an_override(self, runs: Runs) -> None:
        runs.sections = {"gate": {"min_accuracy": 0.5, "first_version": "refuse"}}
        conf = {"gate.override_by": "Ada", "gate.override_reason": "demo"}
        assert runs.skipped("manual", conf)["state"] == "refused"

    def test_is_told_of_in_the_note_before_training(self, runs: Runs) -> None:
        result = runs.run("manual")
        [note] = runs.notes
        assert note.startswith("**The pictures are ready; nothing was trained yet.**\n\n8 test pictures: ")
        assert note == "\n\n".join([note.partition("\n\n")[0], *result["gate_preview"]])

    def test_that_takes_no_first_version_takes_the_next_one(self, runs: Runs) -> None:
        runs.deploy("v_1", runs.run("manual"))
        runs.sections = {"gate": {"min_accuracy": 0.5, "first_version": "refuse"}}
        assert runs.run("manual")["version"]


class TestOlderDatasetVersions:
    def test_are_trained_on_as_they_are_without_any_work(self, runs: Runs) -> None:
        first = runs.run()
        runs.add_picture()
        second = runs.run()
        assert first["version"] != second["version"]
        again = runs.run("manual", {"dataset.as_of": first["version"]})
        assert runs.fetched == FetchResult(index=None).to_dict()
        assert (again["decoded"], again["new"]) == (0, False)
        names = ("version", "uri", "classes", "pictures", "test_pictures", "pack_index", "pack_items")
        assert {name: again[name] for name in names} == {name: first[name] for name in names}

    def test_of_a_name_that_there_is_not_are_refused_with_those_there_are(self, runs: Runs) -> None:
        version = runs.run()["version"]
        with pytest.raises(AirflowFailException, match=f"no dataset version d_1, .*known: {version}"):
            runs.run("manual", {"dataset.as_of": "d_1"})
        with pytest.raises(AirflowFailException, match=r"ConfigError: .*`dataset.as_of`"):
            runs.run("manual", {"dataset.as_of": "../d_1"})

    def test_with_a_picture_taken_down_since_train_nothing_more(self, runs: Runs, storage: Storage) -> None:

        version = runs.run()["version"]
        row = manifest_rows(storage, version)[0]
        gone = Takedown(id=row.id, blobs=[row.blob], urls=[], at="2026-01-01")
        write_takedowns(dataset_folder(storage, "toys"), [gone])
        with pytest.raises(AirflowFailException, match="1 pictures of dataset version .* taken down since"):
            runs.run("manual", {"dataset.as_of": version})


class TestBackfill:
    def at(self, runs: Runs, storage: Storage, version: str, day: int) -> None:
        """Move a dataset version to a day of January."""
        uri = dataset_folder(storage).version(version).info
        info = read_info(dataset_folder(storage).version(version)).to_dict()
        storage.write_json(uri, {**info, "created_at": f"2026-01-{day:02}T12:00:00+00:00"})

    def test_trains_on_the_version_that_was_the_latest_one_then(self, runs: Runs, storage: Storage) -> None:
        first = runs.run()["version"]
        runs.add_picture()
        second = runs.run()["version"]
        self.at(runs, storage, first, 2)
        self.at(runs, storage, second, 5)
        for day, version in ((3, first), (5, first), (6, second)):
            moment = datetime(2026, 1, day, tzinfo=UTC)
            dataset = runs.run("backfill", data_interval_end=moment, logical_date=moment - timedelta(days=1))
            assert dataset["version"] == version, day

    def test_of_a_time_before_the_first_version_is_refused(self, runs: Runs, storage: Storage) -> None:
        self.at(runs, storage, runs.run()["version"], 2)
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        with pytest.raises(AirflowFailException, match="toys had no dataset version at 2026-01-01"):
            runs.run("backfill", data_interval_end=moment, logical_date=moment)

    def test_of_what_serves_already_is_skipped(self, runs: Runs) -> None:
        runs.deploy("v_1", runs.run())
        moment = datetime.now(UTC) + timedelta(days=1)
        assert runs.skipped("backfill", data_interval_end=moment, logical_date=moment)["version"] == "v_1"


class TestBursts:
    def wait(self, make_context: Callable[..., Any], kind: str, seconds: float = 60) -> None:
        from graft.operators.debounce import DebounceOperator

        yaml = {
            "name": "m",
            "dataset": {"source": {"type": "sample"}},
            "retrain": {"debounce_seconds": seconds},
        }
        context = make_context()
        context["dag_run"] = SimpleNamespace(conf={}, run_type=kind)
        DebounceOperator(task_id="settle", classifier=yaml).execute(context)

    def test_are_waited_for_without_a_slot(self, make_context: Callable[..., Any]) -> None:
        with pytest.raises(TaskDeferred) as caught:
            self.wait(make_context, "asset_triggered")
        moment = caught.value.trigger.serialize()[1]["moment"]
        assert 50 < (moment - datetime.now(UTC)).total_seconds() <= 60

    @pytest.mark.parametrize(("kind", "seconds"), [("manual", 60), ("asset_triggered", 0)])
    def test_do_not_hold_up_runs_by_hand_or_where_nothing_is_to_be_waited_for(
        self, make_context: Callable[..., Any], kind: str, seconds: float
    ) -> None:
        self.wait(make_context, kind, seconds)
