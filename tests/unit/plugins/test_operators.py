"""The steps of a run, driven in order over real storage, a fake engine and made-up predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskDeferred

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.history import read_history
from pipeline.artifacts.model_record import TrainingReference
from pipeline.artifacts.steps import PackResult
from pipeline.artifacts.training import FeatureWork
from pipeline.artifacts.tuning import Tuning
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.errors import ConfigError, JobFailed, PlatformUnavailable, StorageError
from pipeline.storage import Storage
from tests.fakes.dataset import row, write_rows
from tests.fakes.evaluation import evaluation, metrics
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.model_record import lineage
from tests.fakes.rows import pack_index
from tests.fakes.study import run_trials
from tests.fakes.training import training_record

CLASSES = ["cat", "dog"]
LABELS = {"t1": "cat", "t2": "dog", "t3": "dog"}
DATASET_URI = "gs://graft/datasets/m/d_1"
YAML = {"name": "m", "dataset": {"source": {"type": "sample"}}, "gate": {"min_accuracy": 0.6}}
DATASET = {
    "dataset": "m",
    "version": "d_1",
    "uri": DATASET_URI,
    "classes": {"cat": 5, "dog": 6},
    "pictures": 11,
    "test_pictures": 3,
    "train_pictures": 8,
    "rejected": {},
    "decoded": 11,
    "warnings": [],
    "expect": {"outcome": "ok", "reasons": []},
    "new": True,
    "pack_index": "gs://graft/packs/d_1/s.json",
    "pack_items": [0, "test"],
    "classifier": YAML,
}


def outputs_of(key: str, *, wrong: bool = False) -> list[float]:
    cat = (LABELS[key] == "cat") != wrong
    return [0.9, 0.1] if cat else [0.1, 0.9]


def prediction(key: str, *, wrong: bool = False) -> dict[str, Any]:
    outputs = outputs_of(key, wrong=wrong)
    return {
        "key": key,
        "outputs": outputs,
        "label": CLASSES[outputs.index(max(outputs))],
        "score": max(outputs),
    }


class World:
    """A bucket with a dataset, and an engine whose jobs do what real ones would."""

    def __init__(self, storage: Storage, engine: FakeMLEngine) -> None:
        self.storage = storage
        self.engine = engine
        self.wrong: dict[str, bool] = {"candidate": False, "champion": False}
        engine.run_job = self.run_job
        engine.answer = lambda version, instance: prediction(instance["key"])
        write_rows(storage, DATASET_URI, *(row(key, label) for key, label in LABELS.items()))
        tests = [{"key": key, "inputs": {"b64": "eA=="}} for key in LABELS]
        storage.write_bytes("gs://graft/tests/d_1/0", "\n".join(map(json.dumps, tests)).encode())
        index = pack_index(classes=CLASSES, tests=[{"uri": "gs://graft/tests/d_1/0", "rows": 3}])
        storage.write_json(DATASET["pack_index"], index.to_dict())

    def run_job(self, job: dict[str, Any]) -> dict[str, Any]:
        if "trainingInput" in job:
            record = training_record(classes=tuple(CLASSES), work=FeatureWork(forwarded=8, cached=0))
            record.write(JobDirectory(self.storage, job["trainingInput"]["jobDir"]))
            return {"state": "SUCCEEDED"}
        given = job["predictionInput"]
        wrong = self.wrong["champion" if "versionName" in given else "candidate"]
        rows = [prediction(key, wrong=wrong) for key in LABELS]
        uri = f"{given['outputPath']}/prediction.results-00000-of-00001"
        self.storage.write_bytes(uri, "\n".join(map(json.dumps, rows)).encode())
        return {"state": "SUCCEEDED", "predictionOutput": {"predictionCount": "3", "errorCount": "0"}}


def write_small_report(workspace: Workspace, **given: Any) -> str:
    """Leave what the report is made of in its place: these pictures have no bytes to show."""
    uri = workspace.job(given["evaluation"].job).report
    values = {name: getattr(value, "to_dict", lambda value=value: value)() for name, value in given.items()}
    workspace.storage.write_json(uri, values)
    return uri


@pytest.fixture
def world(storage: Storage, engine: FakeMLEngine, monkeypatch: pytest.MonkeyPatch) -> World:
    from graft.hooks.airflow_api import AirflowApiHook

    notes: list[str] = []
    monkeypatch.setattr(AirflowApiHook, "write_run_note", lambda self, dag, run, note: notes.append(note))
    staged = SimpleNamespace(uri="gs://graft/weights/w", digest="w")
    package = "gs://graft/packages/p.tar.gz"
    monkeypatch.setattr("pipeline.report.build.write_report", write_small_report)
    monkeypatch.setattr("pipeline.submission.backbone.stage_weights", lambda *a, **k: staged)
    monkeypatch.setattr("pipeline.submission.staged_training.stage_package", lambda *a, **k: package)
    world = World(storage, engine)
    world.notes = notes  # type: ignore[attr-defined]
    return world


@pytest.fixture
def run_step(make_context: Callable[..., Any]) -> Callable[..., Any]:
    """Run one task of the DAG with its templates replaced, and return its XCom."""
    from graft.training_dag import build_training_dag

    from pipeline.config import Classifier

    dag = build_training_dag(Classifier.from_dict(YAML))

    def run(task_id: str, conf: dict[str, Any] | None = None, **inputs: Any) -> Any:
        task = dag.get_task(task_id)
        if hasattr(task, "partial_kwargs"):
            arguments = {**task.partial_kwargs, "task_id": task_id}
            for name in ("params", "dag", "task_group", "start_date", "end_date"):
                arguments.pop(name, None)
            task = task.operator_class(**{**arguments, **inputs})
        for name, value in inputs.items():
            setattr(task, name, value)
        return execute(task, make_context(conf, task_id=task_id))

    return run


def execute(task: Any, context: Any) -> Any:
    """Return a task's result; the gate ends with skipping `approve` where nobody has to be asked."""
    try:
        return task.execute(context)
    except DownstreamTasksSkipped as skip:
        if skip.tasks != ["approve"]:
            raise
        return context["ti"].pushed["return_value"]


def run_until_gate(run_step: Callable[..., Any], dataset: dict[str, Any] = DATASET) -> dict[str, Any]:
    training = run_step("train", dataset=dataset)
    evaluation = run_step("evaluate", dataset=dataset, training=training)
    gate = run_step(
        "gate",
        fetched={"index": None, "downloaded": 4},
        dataset=dataset,
        packed=[{"decoded": 2, "written": 1}, {"decoded": 3, "written": 1}],
        training=training,
        evaluation=evaluation,
    )
    return {"dataset": dataset, "training": training, "evaluation": evaluation, "gate": gate}


def deploy(run_step: Callable[..., Any]) -> dict[str, Any]:
    done = run_until_gate(run_step)
    version = run_step("create_version", **done)
    return {**done, "version": version}


def pick(done: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: done[name] for name in names}


def promote(run_step: Callable[..., Any], done: dict[str, Any]) -> Any:
    champion = done["evaluation"]["champion_version"]
    return run_step(
        "promote",
        champion=champion,
        gate=done["gate"],
        smoke_test=done.get("smoke_test"),
        version_name=done["version"]["version"],
    )


def smoke_test(run_step: Callable[..., Any], done: dict[str, Any]) -> Any:
    return run_step(
        "smoke_test", **pick(done, "dataset", "evaluation", "gate"), version_name=done["version"]["version"]
    )


class TestWholeRun:
    def test_first_version_is_deployed_tested_promoted_and_published(
        self, world: World, run_step: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        from graft.operators.deployment import PublishModelOperator, model_asset

        done = deploy(run_step)
        version = done["version"]["version"]
        assert set(world.engine.models) == {"m__candidate"}
        smoke = smoke_test(run_step, done)
        assert (smoke["pictures"], smoke["max_difference"]) == (3, 0.0)
        assert promote(run_step, done) == {"promotion": "promoted", "previous": None}
        assert set(world.engine.models) == {"m"}
        events = {model_asset("m"): SimpleNamespace(extra=None)}
        operator = PublishModelOperator(task_id="publish", model="m", **pick(done, "gate", "version"))
        result = operator.execute({**make_context(), "outlet_events": events})
        assert result == {"summary": "gs://graft/runs/m/manual__1/summary.json", "version": version}
        assert events[model_asset("m")].extra["accuracy"] == 1.0
        summary = world.storage.read_json(result["summary"])
        assert (summary["state"], summary["version"]) == ("success", version)
        assert summary["work"] == {"downloaded": 4, "decoded": 11, "forwarded": 8, "cached": 0}
        assert summary["evaluation"]["job"] == done["evaluation"]["job"]
        assert f"Deployed `{version}`" in world.notes[0]  # type: ignore[attr-defined]
        assert "first version" in world.notes[0]  # type: ignore[attr-defined]
        assert done["gate"]["report"] == f"gs://graft/jobs/{done['evaluation']['job']}/report.html"
        report = json.loads(world.storage.read_bytes(f"{done['training']['model_uri']}/graft/report.html"))
        assert report["decision"]["accepted"] is True
        lineage = world.storage.read_json(f"{done['training']['model_uri']}/graft/lineage.json")
        assert lineage["training"]["weights_uri"] == "gs://graft/weights/w"

    def test_every_result_is_small_and_plain(self, world: World, run_step: Callable[..., Any]) -> None:
        for name, value in deploy(run_step).items():
            assert json.loads(json.dumps(value)) == value, name
            assert len(json.dumps(value)) < 20_000

    def test_a_retried_step_repeats_no_job_and_no_version(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        first, second = deploy(run_step), deploy(run_step)
        assert first["training"] == second["training"]
        assert first["version"] == second["version"]
        predicting = [job for job in world.engine.jobs.values() if "predictionInput" in job]
        # The second evaluation finds the version it has made meanwhile as champion.
        assert len([job for job in predicting if "uri" in job["predictionInput"]]) == 1
        assert len(world.engine.list_versions("m__candidate")) == 1


class TestChampion:
    def make_champion(self, world: World, labels: list[str] | None = CLASSES) -> None:
        world.engine.ensure_model("m")
        world.engine.create_version("m", {"name": "v_old", "deploymentUri": "gs://graft/old"})
        if labels:
            world.storage.write_json("gs://graft/models/m/v_old/graft/labels.json", labels)

    def test_is_measured_on_the_same_pictures_and_replaced(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        self.make_champion(world)
        world.wrong["champion"] = True
        done = deploy(run_step)
        assert done["evaluation"]["champion_version"] == "v_old"
        assert done["gate"]["decision"]["baseline"]["accuracy"] == 0.0
        assert promote(run_step, done)["previous"] == "v_old"
        assert world.engine.models["m"]["defaultVersion"]["name"].endswith(done["version"]["version"])

    def test_without_our_metadata_is_not_asked_and_not_compared(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        self.make_champion(world, labels=None)
        done = deploy(run_step)
        predicting = [job for job in world.engine.jobs.values() if "predictionInput" in job]
        assert [job for job in predicting if "versionName" in job["predictionInput"]] == []
        assert done["evaluation"]["champion_version"] == "v_old"
        assert "carries no metadata" in done["gate"]["decision"]["note"]
        assert promote(run_step, done)["previous"] == "v_old"

    def test_that_came_after_the_evaluation_began_supersedes_the_run(
        self, world: World, run_step: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.make_champion(world)
        answers = iter([None])  # what `submit` sees; `complete` and the promotion see the champion
        real = world.engine.get_model
        monkeypatch.setattr(world.engine, "get_model", lambda name: next(answers, real(name)))
        done = deploy(run_step)
        assert done["evaluation"]["champion_version"] is None
        with pytest.raises(DownstreamTasksSkipped):
            promote(run_step, done)
        assert world.engine.get_version("m", done["version"]["version"]) is None

    def test_predicts_a_dataset_version_only_once(self, world: World, run_step: Callable[..., Any]) -> None:
        self.make_champion(world)
        training = run_step("train", dataset=DATASET)
        jobs = []
        for model_uri in ("gs://graft/a", "gs://graft/b"):
            inputs = {"dataset": DATASET, "training": {**training, "model_uri": model_uri}}
            jobs.append(run_step("evaluate", **inputs)["champion_job"])
        assert jobs[0] == jobs[1]

    def test_a_new_default_supersedes_the_run(self, world: World, run_step: Callable[..., Any]) -> None:
        self.make_champion(world)
        done = deploy(run_step)
        world.engine.create_version("m", {"name": "v_other", "deploymentUri": "gs://graft/other"})
        world.engine.set_default("m", "v_other")
        with pytest.raises(DownstreamTasksSkipped) as caught:
            promote(run_step, done)
        assert caught.value.tasks == ["publish"]
        summary = world.storage.read_json("gs://graft/runs/m/manual__1/summary.json")
        assert (summary["state"], summary["version"]) == ("superseded", None)
        assert summary["gate"]["accepted"] is True
        assert world.engine.get_version("m", done["version"]["version"]) is None


class TestGate:
    def test_refusal_is_green_skips_what_follows_and_leaves_no_version(
        self, world: World, run_step: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        world.wrong["candidate"] = True
        with pytest.raises(DownstreamTasksSkipped) as caught:
            run_until_gate(run_step)
        assert caught.value.tasks == ["approve", "create_version", "promote", "publish", "smoke_test"]
        summary = world.storage.read_json("gs://graft/runs/m/manual__1/summary.json")
        assert (summary["state"], summary["version"]) == ("refused", None)
        assert summary["gate"]["reasons"] == ["absolute.accuracy.min: accuracy 0 is below the limit 0.6"]
        assert "Refused by the gate" in world.notes[0]  # type: ignore[attr-defined]
        assert world.engine.models == {}


class TestOverride:
    def test_is_recorded_with_the_version_and_told_to_everybody(
        self, world: World, run_step: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        from graft.operators.deployment import PublishModelOperator, model_asset

        world.wrong["candidate"] = True
        gate = {**YAML["gate"], "override_by": "Ada", "override_reason": "demo"}  # type: ignore[dict-item]
        dataset = {**DATASET, "classifier": {**YAML, "gate": gate}}
        done = run_until_gate(run_step, dataset)
        assert done["gate"]["decision"]["override"] == {"by": "Ada", "reason": "demo"}
        done["version"] = run_step("create_version", **done)
        version = world.engine.get_version("m__candidate", done["version"]["version"])
        assert version is not None
        assert "overridden by Ada (demo)" in version["description"]
        promote(run_step, done)
        events = {model_asset("m"): SimpleNamespace(extra=None)}
        operator = PublishModelOperator(task_id="publish", model="m", **pick(done, "gate", "version"))
        operator.execute({**make_context(), "outlet_events": events})
        assert events[model_asset("m")].extra["decided_by"] == "Ada"
        [history] = [uri for uri in world.storage.list_uris("gs://graft/classifiers/m/history/")]
        assert world.storage.read_json(history)["decided_by"] == "Ada"
        assert "overridden by Ada (demo)" in world.notes[0]  # type: ignore[attr-defined]

    def test_is_recorded_under_the_signed_in_user_with_the_typed_name_beside(
        self, world: World, make_context: Callable[..., Any]
    ) -> None:
        from graft.operators.gate import GateOperator

        evaluation(metrics(0.5)).write(world.storage, "gs://graft/e.json")
        gate = {**YAML["gate"], "override_by": "Ada", "override_reason": "demo"}  # type: ignore[dict-item]
        operator = GateOperator(task_id="t", evaluation="gs://graft/e.json", gate=gate)
        context = {**make_context(), "dag_run": SimpleNamespace(conf={}, triggering_user_name="grace")}
        decision = operator.execute(context)["decision"]
        assert decision["override"] == {"by": "grace", "reason": "demo (named: Ada)"}


class TestSmokeTest:
    def test_failure_deletes_the_version_and_fails_for_good(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        done = deploy(run_step)
        world.engine.answer = lambda version, instance: prediction(instance["key"], wrong=True)
        with pytest.raises(AirflowFailException, match="SmokeTestFailed: Picture t1"):
            smoke_test(run_step, done)
        assert world.engine.models == {}

    def test_of_a_version_that_the_gate_refused_is_an_error(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        done = run_until_gate(run_step)
        refused = {"accepted": False, "reasons": ["not_worse: it is worse"]}
        done["gate"] = {**done["gate"], "decision": {**done["gate"]["decision"], **refused}}
        with pytest.raises(AirflowFailException, match="GateRefused: .*not_worse: it is worse"):
            run_step("create_version", **done)
        assert world.engine.models == {}
        assert not world.storage.exists(f"{done['training']['model_uri']}/graft/lineage.json")

    def test_whose_latency_nobody_measured_does_not_serve(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        gate = {"min_accuracy": 0.6, "latency_ms": {"p95": 1e6}}
        done = run_until_gate(run_step, {**DATASET, "classifier": {**YAML, "gate": gate}})
        done["version"] = run_step("create_version", **done)
        with pytest.raises(AirflowFailException, match=r"GateRefused: .*nothing judged latency_ms\.p95"):
            promote(run_step, done)
        assert set(world.engine.models) == {"m__candidate"}


class TestLatency:
    def deploy(self, run_step: Callable[..., Any], p95: float, **more: Any) -> dict[str, Any]:
        gate = {"min_accuracy": 0.6, "latency_ms": {"p95": p95}, **more}
        done = run_until_gate(run_step, {**DATASET, "classifier": {**YAML, "gate": gate}})
        return {**done, "version": run_step("create_version", **done)}

    def test_over_the_limit_refuses_the_version_and_the_run_is_green(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        done = self.deploy(run_step, 1e-6)
        with pytest.raises(DownstreamTasksSkipped) as caught:
            smoke_test(run_step, done)
        assert caught.value.tasks == ["promote", "publish"]
        assert world.engine.models == {}
        summary = world.storage.read_json("gs://graft/runs/m/manual__1/summary.json")
        assert (summary["state"], summary["version"]) == ("refused", None)
        assert summary["gate"]["accepted"] is False
        assert summary["gate"]["reasons"][0].startswith("latency_ms.p95: of 20 answers")
        assert "Gate: refused: latency_ms.p95" in world.notes[0]  # type: ignore[attr-defined]

    def test_over_the_limit_is_overridden_and_told_to_everybody(
        self, world: World, run_step: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        """The only rule that fails is judged after the gate; whoever overrode it stands in the records."""
        from graft.operators.deployment import PublishModelOperator, model_asset

        person = {"override_by": "Ada", "override_reason": "a demo"}
        done = self.deploy(run_step, 1e-6, **person)
        assert done["gate"]["decision"]["override"] is None
        done["smoke_test"] = smoke_test(run_step, done)
        assert done["smoke_test"]["override"] == {"by": "Ada", "reason": "a demo"}
        promote(run_step, done)
        [event] = read_history(Workspace(world.storage, "gs://graft"), "m")
        assert event.decided_by == "Ada"
        operator = PublishModelOperator(
            task_id="publish", model="m", **pick(done, "gate", "version", "smoke_test")
        )
        events = {model_asset("m"): SimpleNamespace(extra=None)}
        operator.execute({**make_context(), "outlet_events": events})
        assert events[model_asset("m")].extra["decided_by"] == "Ada"
        summary = world.storage.read_json("gs://graft/runs/m/manual__1/summary.json")
        assert summary["gate"]["override"] == {"by": "Ada", "reason": "a demo"}
        assert summary["gate"]["reasons"][0].startswith("latency_ms.p95: of 20 answers")
        assert "overridden by Ada (a demo): latency_ms.p95" in world.notes[-1]  # type: ignore[attr-defined]

    def test_within_the_limit_is_no_override(
        self, world: World, run_step: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        done = self.deploy(run_step, 1e6, override_by="Ada", override_reason="a demo")
        done["smoke_test"] = smoke_test(run_step, done)
        promote(run_step, done)
        [event] = read_history(Workspace(world.storage, "gs://graft"), "m")
        assert event.decided_by != "Ada"

    def test_without_a_default_rule_stands_in_the_history(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        done = self.deploy(run_step, 1e6, defaults={"ratchet": False})
        done["smoke_test"] = smoke_test(run_step, done)
        promote(run_step, done)
        [event] = read_history(Workspace(world.storage, "gs://graft"), "m")
        assert event.switched_off == ("ratchet",)

    def test_within_the_limit_passes(self, world: World, run_step: Callable[..., Any]) -> None:
        assert smoke_test(run_step, self.deploy(run_step, 1e6))["answers"] == 20
        assert len(world.engine.list_versions("m__candidate")) == 1


class TestEvaluation:
    def test_other_counts_than_test_pictures_fail(self, world: World, run_step: Callable[..., Any]) -> None:
        training = run_step("train", dataset=DATASET)
        with pytest.raises(AirflowFailException, match="EvaluationError: .* 4 test pictures"):
            run_step("evaluate", dataset={**DATASET, "test_pictures": 4}, training=training)

    def test_other_classes_than_the_datasets_fail_before_any_job(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        training = {**run_step("train", dataset=DATASET), "classes": ["dog", "cat"]}
        with pytest.raises(AirflowFailException, match="LabelMapMismatch"):
            run_step("evaluate", dataset=DATASET, training=training)
        assert list(world.engine.jobs) == [training["job"]]


class TestWarmStart:
    DATASET = {**DATASET, "classifier": {**YAML, "model": {"warm_start": True}}}

    def submit(self, world: World, run_step: Callable[..., Any]) -> list[str]:
        job = world.engine.jobs[run_step("train", dataset=self.DATASET)["job"]]
        return list(job["trainingInput"]["args"])

    def test_begins_from_the_champion_on_the_same_weights(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        made_of = lineage(weights_uri="gs://graft/weights/w")
        made_of.write(world.storage, "gs://graft/old/graft/lineage.json")
        world.engine.ensure_model("m")
        world.engine.create_version("m", {"name": "v_old", "deploymentUri": "gs://graft/old"})
        args = self.submit(world, run_step)
        assert args[args.index("--warm-start") + 1] == "gs://graft/old"

    @pytest.mark.parametrize(
        ("head", "head_uri"), [({"type": "logistic"}, None), ({"module": "h.py"}, "gs://graft/heads/h.py")]
    )
    def test_begins_anew_where_the_champion_has_a_head_of_another_type(
        self, world: World, run_step: Callable[..., Any], head: dict[str, str], head_uri: str | None
    ) -> None:
        champion = Classifier.from_dict({**YAML, "model": {"head": head}})
        made_of = lineage(classifier=champion, weights_uri="gs://graft/weights/w", head_uri=head_uri)
        made_of.write(world.storage, "gs://graft/old/graft/lineage.json")
        world.engine.ensure_model("m")
        world.engine.create_version("m", {"name": "v_old", "deploymentUri": "gs://graft/old"})
        assert "--warm-start" not in self.submit(world, run_step)

    def test_begins_anew_without_a_champion(self, world: World, run_step: Callable[..., Any]) -> None:
        assert "--warm-start" not in self.submit(world, run_step)

    def test_begins_anew_where_the_champion_has_another_backbone_or_says_nothing(
        self, world: World, run_step: Callable[..., Any]
    ) -> None:
        world.engine.ensure_model("m")
        world.engine.create_version("m", {"name": "v_old", "deploymentUri": "gs://graft/old"})
        assert "--warm-start" not in self.submit(world, run_step)


class TestTuning:
    TUNE = {
        "parameters": {"learning_rate": {"min": 1e-4, "max": 0.1}, "head.units": {"min": 16, "max": 256}},
        "trials": 12,
    }
    DATASET = {**DATASET, "classifier": {**YAML, "model": {"tune": TUNE}}}

    @pytest.fixture
    def tune(self, world: World, make_context: Callable[..., Any]) -> Callable[..., Any]:
        """Run the task `tune` of a run; the first trial of a study fills the caches."""
        from graft.operators.tuning import MLEngineTuneClassifierOperator

        def run_job(job: dict[str, Any]) -> dict[str, Any]:
            if "hyperparameters" in job["trainingInput"]:
                return run_trials(job, world.storage, 12)
            return world.run_job(job)

        def run(dataset: Any = self.DATASET, **where: Any) -> Any:
            world.engine.run_job = run_job
            operator = MLEngineTuneClassifierOperator(task_id="tune", dataset=dataset)
            return operator.execute(make_context(task_id="tune", **where))

        return run

    def test_the_best_trial_trains_and_the_lineage_names_the_study(
        self, world: World, tune: Callable[..., Any], run_step: Callable[..., Any]
    ) -> None:
        tuned = tune()
        assert tuned["forwarded"] == 10
        assert tuned["tuning"]["parameters"] == {"model.learning_rate": 0.01, "model.head.units": 48}
        training = run_step("train", dataset=self.DATASET, tuning=tuned)
        args = world.engine.jobs[training["job"]]["trainingInput"]["args"]
        options = dict(zip(args[::2], args[1::2], strict=True))
        assert (options["--learning-rate"], options["--units"]) == ("0.01", "48")
        assert (training["forwarded"], training["cached"]) == (18, 0)
        reference = TrainingReference.from_dict(training)
        assert reference.tuning is not None
        assert Tuning.read(world.storage, reference.tuning.uri).best.number == 3

    def test_another_run_on_the_same_pictures_finds_the_study(
        self, world: World, tune: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        first = tune()
        again = tune(run_id="manual__2")
        assert (again["tuning"], again["forwarded"]) == (first["tuning"], 0)
        assert len(world.engine.jobs) == 1

    def test_a_study_whose_trials_were_swept_away_is_done_again(
        self, world: World, tune: Callable[..., Any]
    ) -> None:
        first = tune()
        world.storage.delete_tree(first["tuning"]["uri"].rpartition("/")[0])
        again = tune()
        assert again["tuning"]["job"] != first["tuning"]["job"]
        assert again["tuning"]["parameters"] == first["tuning"]["parameters"]

    def test_a_classifier_without_a_study_is_named(self, tune: Callable[..., Any]) -> None:
        with pytest.raises(AirflowFailException, match="has no `model.tune`"):
            tune(DATASET)


class TestTrainingJob:
    def train(self, make_context: Callable[..., Any], **options: Any) -> tuple[Any, Any]:
        from graft.operators.training import MLEngineTrainClassifierOperator

        operator = MLEngineTrainClassifierOperator(task_id="train", dataset=DATASET, **options)
        return operator, make_context(task_id="train")

    def test_submits_the_package_with_its_arguments(self, world: World, run_step: Callable[..., Any]) -> None:
        job = world.engine.jobs[run_step("train", dataset=DATASET)["job"]]
        given = job["trainingInput"]
        assert given["pythonModule"] == "pipeline.trainer.task"
        assert given["packageUris"] == ["gs://graft/packages/p.tar.gz"]
        assert given["jobDir"] == f"gs://graft/jobs/{job['jobId']}"
        options = dict(zip(given["args"][::2], given["args"][1::2], strict=True))
        assert options["--pack-index"] == DATASET["pack_index"]
        assert (options["--epochs"], options["--weights"]) == ("20", "gs://graft/weights/w")

    def test_defers_until_the_job_has_ended(self, world: World, make_context: Callable[..., Any]) -> None:
        world.engine.run_job = None
        operator, context = self.train(make_context)
        with pytest.raises(TaskDeferred) as caught:
            operator.execute(context)
        assert caught.value.method_name == "execute_complete"
        [job_id] = world.engine.jobs
        kwargs = caught.value.trigger.serialize()[1]
        assert kwargs["job_ids"] == [job_id]
        assert caught.value.kwargs["adopted"] == []

    def test_goes_on_after_success(self, world: World, make_context: Callable[..., Any]) -> None:
        operator, context = self.train(make_context)
        [job] = operator.submit(context)
        event = {"status": "ended", "job_ids": [job["jobId"]], "states": {}}
        again, _ = self.train(make_context)
        assert again.execute_complete(context, event)["forwarded"] == 8

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ("CANCELLED", "Cancelled by a client."),
            ("FAILED", "The packages cannot be installed. p 1.0 requires numpy>9, and the runtime has 2.0."),
            (
                "FAILED",
                "The replica master 0 exited with a non-zero status of 78. Termination reason: Error.",
            ),
        ],
    )
    def test_job_that_the_next_one_would_only_repeat_fails_the_task_at_once(
        self, world: World, make_context: Callable[..., Any], state: str, message: str
    ) -> None:
        operator, context = self.train(make_context)
        [job] = operator.submit(context)
        world.engine.end(job["jobId"], state, message)
        event = {"status": "ended", "job_ids": [job["jobId"]], "states": {}}
        with pytest.raises(AirflowFailException, match=f"JobFailedForGood: .* ended {state}: {message[:20]}"):
            operator.execute_complete(context, event)

    @pytest.mark.parametrize(
        "message",
        [
            "The replica master 0 exited with a non-zero status of 1. Termination reason: Error.",
            "The replica master 0 exited with a non-zero status of 143. Termination reason: Error.",
            "The job's processes are gone and left no exit code: they were killed, or the machine restarted.",
            "The packages could not be installed: it ended with a non-zero status of 143.",
        ],
    )
    def test_job_that_failed_is_done_again_by_the_next_try_under_a_new_id(
        self, world: World, make_context: Callable[..., Any], message: str
    ) -> None:
        world.engine.run_job = None
        operator, context = self.train(make_context)
        [job] = operator.submit(context)
        world.engine.end(job["jobId"], "FAILED", message)
        event = {"status": "ended", "job_ids": [job["jobId"]], "states": {}}
        with pytest.raises(JobFailed, match="ended FAILED"):  # which Airflow tries again
            operator.execute_complete(context, event)
        again, context = self.train(make_context)
        with pytest.raises(TaskDeferred):
            again.execute(context)
        assert list(world.engine.jobs) == [job["jobId"], again.job_ids[0]]
        assert again.job_ids[0] != job["jobId"]

    def test_deadline_cancels_the_job(self, world: World, make_context: Callable[..., Any]) -> None:
        operator, context = self.train(make_context)
        event = {"status": "deadline", "job_ids": ["j"], "states": {"j": "RUNNING"}}
        with pytest.raises(AirflowFailException, match="JobTimeout: .*RUNNING"):
            operator.execute_complete(context, event)
        assert world.engine.cancelled == ["j"]

    def test_error_event_fails_the_task(self, world: World, make_context: Callable[..., Any]) -> None:
        operator, context = self.train(make_context)
        event = {"status": "error", "job_ids": ["j"], "states": {}, "message": "There is no job j"}
        with pytest.raises(AirflowFailException, match="no job j"):
            operator.execute_complete(context, event)

    def test_wait_that_a_slow_service_ended_is_taken_up_by_the_next_try(
        self, world: World, make_context: Callable[..., Any]
    ) -> None:
        world.engine.run_job = None
        operator, context = self.train(make_context)
        [job] = operator.submit(context)
        event = {"status": "error", "job_ids": ["j"], "states": {}, "message": "slow", "is_final": False}
        with pytest.raises(PlatformUnavailable, match="slow"):  # which Airflow tries again
            operator.execute_complete(context, event)
        again, context = self.train(make_context)
        with pytest.raises(TaskDeferred) as caught:
            again.execute(context)
        assert caught.value.trigger.job_ids == [job["jobId"]]

    def test_waits_itself_when_not_deferrable(self, world: World, make_context: Callable[..., Any]) -> None:
        world.engine.run_job = None
        operator, context = self.train(make_context, deferrable=False, poll_seconds=0.01)
        real, looks = world.engine.get_job, []

        def finish_later(job_id: str) -> dict[str, Any] | None:
            job = real(job_id)
            looks.append(job_id)
            if job is not None and len(looks) > 3:
                job.update(world.run_job(job))
            return job

        world.engine.get_job = finish_later  # type: ignore[method-assign]
        assert operator.execute(context)["forwarded"] == 8
        assert len(looks) > 3

    def test_kill_while_running_cancels_the_job(self, world: World, make_context: Callable[..., Any]) -> None:
        world.engine.run_job = None
        operator, context = self.train(make_context)
        operator.submit(context)
        operator.on_kill()
        assert world.engine.cancelled == list(world.engine.jobs)

    def test_kill_before_any_job_needs_no_engine(self, make_context: Callable[..., Any]) -> None:
        operator, _ = self.train(make_context)
        operator.on_kill()


class TestConf:
    def test_unknown_conf_key_fails_the_first_task_before_any_work(
        self, storage: Storage, run_step: Callable[..., Any]
    ) -> None:
        with pytest.raises(AirflowFailException, match="ConfigError: .*`model.epoch`"):
            run_step("fetch", {"model.epoch": 3})
        assert storage.list_uris("gs://graft/") == []

    def test_missing_weights_package_fails_the_first_task_before_any_work(
        self, storage: Storage, run_step: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.backbones.imagenet_file.importlib.util.find_spec", lambda _: None)
        with pytest.raises(AirflowFailException, match=r"WeightsNotFound.*graft\[efficientnet-lite2\]"):
            run_step("fetch", {"model.backbone": "efficientnet_lite2"})
        assert storage.list_uris("gs://graft/") == []

    def test_unknown_backbone_fails_the_first_task(
        self, storage: Storage, run_step: Callable[..., Any]
    ) -> None:
        with pytest.raises(AirflowFailException, match="UnknownBackbone"):
            run_step("fetch", {"model.backbone": "resnet"})
        assert storage.list_uris("gs://graft/") == []

    def test_more_blocks_than_there_are_fail_the_first_task(
        self, storage: Storage, run_step: Callable[..., Any]
    ) -> None:
        classifier = {**YAML, "model": {"finetune": {"blocks": 17}}}
        with pytest.raises(AirflowFailException, match="efficientnet_lite0 has 16 blocks; give at most 16"):
            run_step("fetch", classifier=classifier)
        assert storage.list_uris("gs://graft/") == []


class TestPacking:
    def test_workers_share_the_plan(
        self, storage: Storage, run_step: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packed: list[Any] = []

        def pack_shard(workspace: Workspace, index: str, item: Any) -> PackResult:
            packed.append(item)
            return PackResult(decoded=10, written=1)

        monkeypatch.setattr("pipeline.preprocess.pack.pack_shard", pack_shard)
        dataset = {**DATASET, "pack_items": [0, 1, 2, "test"]}
        results = [run_step("pack", dataset=dataset, worker=worker) for worker in (0, 1)]
        assert sorted(map(str, packed)) == ["0", "1", "2", "test"]
        assert results == [{"decoded": 20, "written": 2}] * 2


class TestFailures:
    def test_transient_errors_pass_so_that_airflow_tries_again(self) -> None:
        from graft.failures import airflow_failures

        with pytest.raises(StorageError), airflow_failures():
            raise StorageError("disk busy")

    def test_other_errors_end_the_task_and_name_themselves(self) -> None:
        from graft.failures import airflow_failures

        with pytest.raises(AirflowFailException, match="ConfigError: bad key"), airflow_failures():
            raise ConfigError("bad key")
