"""The DAG that is written by hand, its tasks driven in order on real pictures and an engine in memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import DownstreamTasksSkipped

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.history import read_history
from pipeline.artifacts.workspace import Workspace
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.training import training_record
from tests.unit.plugins.test_dataset_operators import Events

FOLDER = Path(__file__).resolve().parents[2] / "dags"
ORDER = ["download", "clean", "npz", "train", "evaluate", "gate", "deploy", "smoke_test", "promote"]


@pytest.fixture(scope="module")
def dag() -> Any:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=FOLDER / "surfaces_by_hand.py", bundle_path=FOLDER, bundle_name="dags-folder")
    assert bag.import_errors == {}
    return bag.dags["surfaces_by_hand"]


def test_never_starts_by_itself_and_has_its_steps_one_after_the_other(dag: Any) -> None:
    assert (dag.schedule, dag.catchup) == (None, False)
    assert [task.task_id for task in dag.topological_sort()] == ORDER
    for task, following in zip(ORDER, ORDER[1:], strict=False):
        assert following in dag.get_task(task).downstream_task_ids


def test_is_made_of_the_operators_of_the_classifiers_dags(dag: Any) -> None:
    from graft.training_dag import build_training_dag

    from pipeline.config import Classifier

    yaml = {"name": "m", "dataset": {"source": {"type": "sample"}}}
    shipped = build_training_dag(Classifier.from_dict(yaml))
    assert {task.task_type for task in dag.tasks} <= {task.task_type for task in shipped.tasks}


class Run:
    """One run of the DAG: results go from task to task as templates say."""

    def __init__(self, dag: Any, storage: Storage, engine: FakeMLEngine) -> None:
        self.dag, self.storage, self.engine = dag, storage, engine
        self.results: dict[str, Any] = {}
        self.is_right = True
        engine.run_job = self.run_job
        engine.answer = lambda version, instance: self.predict(instance["key"])

    def run(self) -> None:
        for task_id in ORDER:
            ti = SimpleNamespace(
                dag_id=self.dag.dag_id,
                run_id="manual__1",
                task_id=task_id,
                map_index=-1,
                max_tries=0,
                xcom_pull=self.pull,
                xcom_push=lambda key, value, task_id=task_id: self.results.__setitem__(task_id, value),
            )
            context = {
                "ti": ti,
                "dag_run": SimpleNamespace(conf={}, run_type="manual"),
                "run_id": "manual__1",
                "outlet_events": Events(),
            }
            task = self.dag.get_task(task_id).prepare_for_execution()
            task.render_template_fields(context)
            self.results[task_id] = json.loads(json.dumps(task.execute(context)))

    def pull(self, task_ids: str, **_: Any) -> Any:
        return self.results[task_ids]

    @property
    def labels(self) -> dict[str, str]:
        manifest = self.storage.read_bytes(f"{self.results['clean']['uri']}/manifest.jsonl")
        rows = map(json.loads, manifest.splitlines())
        return {row["id"]: row["label"] for row in rows if row["split"] == "test"}

    def predict(self, key: str) -> dict[str, Any]:
        classes = list(self.results["clean"]["classes"])
        outputs = [0.9 if (label == self.labels[key]) == self.is_right else 0.05 for label in classes]
        outputs = [value / sum(outputs) for value in outputs]
        label = classes[outputs.index(max(outputs))]
        return {"key": key, "outputs": outputs, "label": label, "score": max(outputs)}

    def run_job(self, job: dict[str, Any]) -> dict[str, Any]:
        if "trainingInput" in job:
            record = training_record(classes=tuple(self.results["clean"]["classes"]))
            record.write(JobDirectory(self.storage, job["trainingInput"]["jobDir"]))
            return {"state": "SUCCEEDED"}
        rows = [self.predict(key) for key in self.labels]
        uri = f"{job['predictionInput']['outputPath']}/prediction.results-00000-of-00001"
        self.storage.write_bytes(uri, "\n".join(map(json.dumps, rows)).encode())
        return {
            "state": "SUCCEEDED",
            "predictionOutput": {"predictionCount": str(len(rows)), "errorCount": "0"},
        }


@pytest.fixture
def run(dag: Any, storage: Storage, engine: FakeMLEngine, monkeypatch: pytest.MonkeyPatch) -> Run:
    from graft.hooks.airflow_api import AirflowApiHook

    staged = SimpleNamespace(uri="gs://graft/weights/w")
    package = SimpleNamespace(stage_package=lambda *a, **k: "gs://graft/packages/p.tar.gz")
    monkeypatch.setattr("pipeline.submission.backbone.stage_weights", lambda *a, **k: staged)
    monkeypatch.setattr("pipeline.submission.backbone.check_packaged", lambda *a, **k: None)
    monkeypatch.setitem(sys.modules, "pipeline.submission.package", package)
    monkeypatch.setattr(AirflowApiHook, "write_run_note", lambda self, dag, run, note: True)
    return Run(dag, storage, engine)


def test_gives_a_good_model_the_traffic(run: Run) -> None:
    run.run()
    version = run.results["deploy"]["version"]
    assert run.results["promote"] == {"promotion": "promoted", "previous": None}
    assert run.engine.models["surfaces_by_hand"]["defaultVersion"]["name"].endswith(f"/{version}")
    assert run.results["gate"]["decision"]["metrics"]["accuracy"] == 1.0
    assert run.results["npz"]["written"] > 1
    assert run.storage.exists(run.results["gate"]["report"])
    [event] = read_history(Workspace(run.storage, "gs://graft"), "surfaces_by_hand")
    assert (event.version, event.decided_by, event.accuracy) == (version, "gate", 1.0)


def test_deploys_nothing_that_its_own_rules_refuse(run: Run) -> None:
    run.is_right = False
    with pytest.raises(DownstreamTasksSkipped) as caught:
        run.run()
    assert sorted(caught.value.tasks) == ["deploy", "promote", "smoke_test"]
    assert run.results["gate"]["decision"]["accepted"] is False
    assert run.engine.models == {}
