"""The operators of Google's provider, by their names and arguments."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.pixels.host import decode_picture, decode_resized
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine

TRAINING = {
    "job_id": "2026 train-1",
    "region": "us-central1",
    "package_uris": ["gs://b/trainer-0.1.tar.gz"],
    "training_python_module": "trainer.task",
    "training_args": ["--epochs", 3],
    "scale_tier": "BASIC",
    "runtime_version": "2.21",
    "python_version": "3.11",
    "job_dir": "gs://b/job",
    "labels": {"team": "vision"},
}
PREDICTION = {
    "job_id": "predict_1",
    "region": "us-central1",
    "data_format": "TEXT",
    "input_paths": ["gs://b/in/*"],
    "output_path": "gs://b/out",
}


@pytest.fixture
def make() -> Callable[..., Any]:
    import graft.operators.mlengine as mlengine

    return lambda name, **arguments: getattr(mlengine, f"MLEngine{name}Operator")(task_id="task", **arguments)


VERSION = {"deploymentUri": "gs://b/model", "runtimeVersion": "2.21"}


class TestNamesOfBefore:
    @pytest.mark.parametrize("name", ["ManageModel", "Model"])
    def test_a_model_is_created_and_got(
        self,
        engine: FakeMLEngine,
        make: Callable[..., Any],
        make_context: Callable[..., Any],
        name: str,
    ) -> None:
        assert make(name, model={"name": "m"}, operation="get").execute(make_context()) is None
        assert make(name, model={"name": "m"}).execute(make_context())["name"].endswith("m")
        assert make(name, model={"name": "m"}, operation="get").execute(make_context()) is not None

    @pytest.mark.parametrize("name", ["ManageVersion", "Version"])
    def test_versions_are_created_listed_promoted_and_deleted(
        self,
        engine: FakeMLEngine,
        make: Callable[..., Any],
        make_context: Callable[..., Any],
        name: str,
    ) -> None:
        engine.create_model({"name": "m"})
        for version in ({"version_name": "v1", "version": VERSION}, {"version": {"name": "v2", **VERSION}}):
            created = make(name, model_name="m", **version).execute(make_context())
            assert created["state"] == "READY"
        listed = make(name, model_name="m", operation="list").execute(make_context())
        assert [each["name"].rpartition("/")[2] for each in listed] == ["v1", "v2"]
        make(name, model_name="m", version_name="v2", operation="set_default").execute(make_context())
        assert engine.models["m"]["defaultVersion"]["name"].endswith("/v2")
        make(name, model_name="m", version_name="v1", operation="delete").execute(make_context())
        assert list(engine.versions["m"]) == ["v2"]

    def test_an_existing_version_is_changed_only_if_asked(
        self,
        engine: FakeMLEngine,
        make: Callable[..., Any],
        make_context: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked: list[bool] = []
        monkeypatch.setattr(
            engine, "create_version", lambda model, body, *, update_existing: asked.append(update_existing)
        )
        for more in ({}, {"update_existing": True}):
            version = {"name": "v1", **VERSION}
            make("ManageVersion", model_name="m", version=version, **more).execute(make_context())
        assert asked == [False, True]

    def test_delegate_to_may_be_none(self, make: Callable[..., Any]) -> None:
        make("ManageModel", model={"name": "m"}, delegate_to=None)

    def test_an_operation_that_is_none_is_refused_with_the_list(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        with pytest.raises(AirflowFailException, match="create, set_default, list, delete"):
            make("ManageVersion", model_name="m", operation="promote").execute(make_context())
        with pytest.raises(AirflowFailException, match="needs a `version_name`"):
            make("ManageVersion", model_name="m", operation="delete").execute(make_context())

    def test_jobs_of_airflow_1_10_are_those_of_today(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        engine.run_job = lambda job: {"state": "SUCCEEDED", "predictionOutput": {"predictionCount": "1"}}
        assert make("Training", **TRAINING).execute(make_context()) == "z_2026_train_1"
        arguments = {**PREDICTION, "model_name": "m", "project_id": "local"}
        assert make("BatchPrediction", **arguments).execute(make_context()) == {"predictionCount": "1"}


class TestTraining:
    def test_submits_v1s_input_under_the_id_made_valid(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        engine.run_job = lambda job: {"state": "SUCCEEDED"}
        context = make_context()
        assert make("StartTrainingJob", **TRAINING).execute(context) == "z_2026_train_1"
        assert context["ti"].pushed["job_id"] == "z_2026_train_1"
        job = engine.jobs["z_2026_train_1"]
        assert job["trainingInput"] == {
            "scaleTier": "BASIC",
            "region": "us-central1",
            "packageUris": ["gs://b/trainer-0.1.tar.gz"],
            "pythonModule": "trainer.task",
            "args": ["--epochs", "3"],
            "runtimeVersion": "2.21",
            "pythonVersion": "3.11",
            "jobDir": "gs://b/job",
            "scheduling": {"maxRunningTime": "21600s"},
        }
        assert job["labels"]["team"] == "vision"

    def test_submits_hyperparameters_as_they_are(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        engine.run_job = lambda job: {"state": "SUCCEEDED"}
        number = {"parameterName": "rate", "type": "DOUBLE", "minValue": 0.1, "maxValue": 1}
        spec = {"goal": "MINIMIZE", "maxTrials": 3, "params": [number]}
        job_id = make("StartTrainingJob", **TRAINING, hyperparameters=spec).execute(make_context())
        assert engine.jobs[job_id]["trainingInput"]["hyperparameters"] == spec

    def test_defers_and_ends_as_the_synchronous_way_does(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        with pytest.raises(TaskDeferred) as caught:
            make("StartTrainingJob", **TRAINING).execute(make_context())
        [job_id] = caught.value.trigger.job_ids
        engine.end(job_id, "SUCCEEDED")
        event = {"status": "ended", "job_ids": [job_id], "states": {}}
        arguments = {**TRAINING, "deferrable": False, "poll_seconds": 0.01}
        deferred = make("StartTrainingJob", **TRAINING).execute_complete(make_context(), event)
        assert deferred == make("StartTrainingJob", **arguments).execute(make_context())

    def test_try_after_a_lost_job_gets_an_id_of_its_own(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        engine.run_job = lambda job: {"state": "SUCCEEDED"}
        engine.jobs["z_2026_train_1"] = {"jobId": "z_2026_train_1", "state": "FAILED"}
        assert make("StartTrainingJob", **TRAINING).execute(make_context()) == "z_2026_train_1_retry1"

    def test_existing_job_with_another_input_names_the_field(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        engine.run_job = lambda job: {"state": "SUCCEEDED"}
        make("StartTrainingJob", **TRAINING).execute(make_context())
        with pytest.raises(AirflowFailException, match=r"`trainingInput\.args` differs"):
            make("StartTrainingJob", **{**TRAINING, "training_args": ["--epochs", 4]}).execute(make_context())

    def test_dry_run_submits_nothing(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        assert make("StartTrainingJob", **TRAINING, mode="DRY_RUN").execute(make_context()) is None
        assert engine.jobs == {}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"package_uris": None}, "give the trainer as `package_uris`"),
            ({"master_config": {"imageUri": "gcr.io/i"}}, "custom image .* runs itself"),
            ({"scale_tier": "CUSTOM"}, "needs a `master_type`"),
            ({"mode": "PRETEND"}, "`mode` is PRODUCTION or DRY_RUN"),
            ({"job_id": ""}, "`job_id` is empty"),
            ({"delegate_to": "a@example.org"}, "`delegate_to` has no meaning here"),
        ],
    )
    def test_what_makes_no_sense_is_refused_by_name(
        self, make: Callable[..., Any], changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            make("StartTrainingJob", **{**TRAINING, **changes})

    def test_old_connection_arguments_are_taken(self, make: Callable[..., Any]) -> None:
        old = {"gcp_conn_id": "my_engine", "project_id": "p1", "impersonation_chain": ["a@example.org"]}
        operator = make("StartTrainingJob", **TRAINING, **old, cancel_on_kill=False)
        assert (operator.ml_engine_conn_id, operator.project_id) == ("my_engine", "p1")
        assert operator.cancel_on_kill is False

    def test_task_page_says_what_the_operator_does(self, make: Callable[..., Any]) -> None:
        operator = make("StartTrainingJob", **TRAINING)
        assert operator.doc_md.startswith("Train on ML Engine: install packages")
        assert "Args:" not in operator.doc_md
        assert make("StartTrainingJob", **TRAINING, doc_md="mine").doc_md == "mine"

    def test_default_args_of_the_dag_reach_the_operator(self, make: Callable[..., Any]) -> None:
        with DAG("d", schedule=None, default_args={"gcp_conn_id": "my_engine", "project_id": "p1"}):
            operator = make("StartTrainingJob", **TRAINING)
        assert (operator.ml_engine_conn_id, operator.project_id) == ("my_engine", "p1")

    def test_cancel_of_a_job_that_never_was_is_an_error(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        engine.jobs["j"] = {"jobId": "j", "state": "RUNNING"}
        make("TrainingCancelJob", job_id="j").execute(make_context())
        assert engine.cancelled == ["j"]
        with pytest.raises(AirflowFailException, match="no job z_9"):
            make("TrainingCancelJob", job_id="9").execute(make_context())


class TestBatchPrediction:
    @pytest.mark.parametrize(
        ("model", "source"),
        [
            ({"uri": "gs://b/model"}, {"uri": "gs://b/model"}),
            ({"model_name": "m"}, {"modelName": "projects/local/models/m"}),
            (
                {"model_name": "m", "version_name": "v", "project_id": "p"},
                {"versionName": "projects/p/models/m/versions/v"},
            ),
        ],
    )
    def test_returns_where_the_predictions_are(
        self,
        engine: FakeMLEngine,
        make: Callable[..., Any],
        make_context: Callable[..., Any],
        model: dict[str, str],
        source: dict[str, str],
    ) -> None:
        output = {"outputPath": "gs://b/out", "predictionCount": "3"}
        engine.run_job = lambda job: {"state": "SUCCEEDED", "predictionOutput": output}
        operator = make("StartBatchPredictionJob", **PREDICTION, **model)
        assert operator.execute(make_context()) == output
        given = engine.jobs["predict_1"]["predictionInput"]
        assert given.items() >= {**source, "dataFormat": "TEXT", "inputPaths": ["gs://b/in/*"]}.items()

    @pytest.mark.parametrize(
        "model", [{}, {"uri": "gs://m", "model_name": "m"}, {"uri": "gs://m", "version_name": "v"}]
    )
    def test_needs_one_model(self, make: Callable[..., Any], model: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match="one of `uri` and `model_name`"):
            make("StartBatchPredictionJob", **PREDICTION, **model)


class TestModelsAndVersions:
    def test_life_of_a_model(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        def run(name: str, **arguments: Any) -> Any:
            return make(name, **arguments).execute(make_context())

        assert run("GetModel", model_name="m") is None
        for _ in range(2):
            assert run("CreateModel", model={"name": "m"})["name"] == "projects/local/models/m"
        for name in ("v1", "v2"):
            version = {"name": name, "deployment_uri": f"gs://b/{name}", "runtimeVersion": "2.21"}
            assert run("CreateVersion", model_name="m", version=version)["state"] == "READY"
        assert [row["deploymentUri"] for row in run("ListVersions", model_name="m")] == [
            "gs://b/v1",
            "gs://b/v2",
        ]
        assert run("SetDefaultVersion", model_name="m", version_name="v2")["name"].endswith("v2")
        run("DeleteVersion", model_name="m", version_name="v1")
        run("DeleteVersion", model_name="m", version_name="v1")
        with pytest.raises(AirflowFailException, match="has versions"):
            run("DeleteModel", model_name="m")
        run("DeleteModel", model_name="m", delete_contents=True)
        assert run("GetModel", model_name="m") is None

    def test_default_version_is_deleted_last(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        engine.create_model({"name": "m"})
        for name in ("v1", "v2"):
            engine.create_version("m", {"name": name, "isDefault": name == "v1"})
        make("DeleteModel", model_name="m", delete_contents=True).execute(make_context())
        assert engine.models == {}

    @pytest.mark.parametrize(
        ("name", "arguments", "message"),
        [
            ("CreateModel", {"model": {}}, "`model` needs a `name`"),
            ("CreateVersion", {"model_name": "m", "version": {"name": "v"}}, "`version` lacks deploymentUri"),
        ],
    )
    def test_missing_fields_are_named(
        self,
        make: Callable[..., Any],
        make_context: Callable[..., Any],
        name: str,
        arguments: dict[str, Any],
        message: str,
    ) -> None:
        with pytest.raises(AirflowFailException, match=message):
            make(name, **arguments).execute(make_context())

    def test_online_prediction(
        self, engine: FakeMLEngine, make: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        engine.answer = lambda version, instance: {"version": version, **instance}
        operator = make("OnlinePredict", model_name="m", instances=[{"x": 1}], version_name="v")
        assert operator.execute(make_context()) == [{"version": "v", "x": 1}]

    def test_pictures_that_are_too_large_are_sent_at_the_size_of_the_network(
        self,
        engine: FakeMLEngine,
        storage: Storage,
        make: Callable[..., Any],
        make_context: Callable[..., Any],
    ) -> None:
        spec = PixelSpec(height=200, width=300, offset=0.0, divisor=1.0)
        storage.write_json("gs://graft/models/m/v/graft/light.json", {"spec": spec.to_dict()})
        noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
        Image.fromarray(noise).save(data := io.BytesIO(), "PNG")
        text = base64.b64encode(data.getvalue()).decode()
        requests: list[int] = []
        predict = engine.predict

        def count(model: str, instances: list[Any], **arguments: Any) -> list[Any]:
            requests.append(len(json.dumps(instances)))
            return predict(model, instances, **arguments)

        engine.predict = count  # type: ignore[method-assign]
        engine.answer = lambda version, instance: instance
        instances = [{"key": str(number), "inputs": {"b64": text}} for number in range(8)]
        operator = make("OnlinePredict", model_name="m", instances=instances, version_name="v")
        answers = operator.execute(make_context())
        assert [answer["key"] for answer in answers] == [str(number) for number in range(8)]
        assert len(requests) == 2
        assert max(requests) <= 1_572_864
        sent = base64.b64decode(answers[0]["inputs"]["b64"])
        np.testing.assert_array_equal(decode_picture(sent), decode_resized(data.getvalue(), spec))


class TestEvaluateOps:
    @pytest.fixture
    def ops(self, storage: Storage) -> tuple[Any, Any, Any]:
        from graft.operators.mlengine import create_evaluate_ops

        lines = [{"predictions": [0.5], "key": 0.0}, {"predictions": [1.0], "key": 3.0}]
        text = "\n".join(map(json.dumps, lines))
        storage.write_bytes("gs://graft/out/prediction.results-00000-of-00001", text.encode())

        def metric(row: dict[str, Any]) -> tuple[float, float]:
            error = row["predictions"][0] - row["key"]
            return error, error**2

        def validate(summary: dict[str, Any]) -> str:
            if summary["count"] != 2:
                raise ValueError("too few predictions")
            return "good"

        defaults = {"project_id": "p1", "region": "r", "model_name": "m", "gcp_conn_id": "c"}
        with DAG("d", schedule=None, default_args=defaults) as dag:
            return create_evaluate_ops(
                task_prefix="evaluate",
                data_format="TEXT",
                input_paths=["gs://graft/in"],
                prediction_path="gs://graft/out",
                metric_fn_and_keys=(metric, ["error", "mse"]),
                validate_fn=validate,
                batch_prediction_job_id="predict_{{ ds_nodash }}",
                dataflow_options={"project": "p1"},
                dag=dag,
            )

    def test_chain_has_the_old_names_and_takes_the_dags_defaults(self, ops: tuple[Any, Any, Any]) -> None:
        predict, summarise, validate = ops
        assert [task.task_id for task in ops] == [
            "evaluate-prediction",
            "evaluate-summary",
            "evaluate-validation",
        ]
        assert predict.downstream_task_ids == {"evaluate-summary"}
        assert summarise.downstream_task_ids == {"evaluate-validation"}
        assert (predict.project_id, predict.region, predict.model_name) == ("p1", "r", "m")
        assert {task.ml_engine_conn_id for task in (predict, summarise, validate)} == {"c"}

    def test_means_are_written_and_validated(
        self, ops: tuple[Any, Any, Any], storage: Storage, make_context: Callable[..., Any]
    ) -> None:
        _, summarise, validate = ops
        expected = {"count": 2, "error": -0.75, "mse": 2.125}
        assert summarise.execute(make_context()) == expected
        assert storage.read_json("gs://graft/out/prediction.summary.json") == expected
        assert validate.execute(make_context()) == "good"

    def test_validation_that_raises_fails_the_task(
        self, ops: tuple[Any, Any, Any], storage: Storage, make_context: Callable[..., Any]
    ) -> None:
        storage.write_json("gs://graft/out/prediction.summary.json", {"count": 1})
        with pytest.raises(ValueError, match="too few predictions"):
            ops[2].execute(make_context())

    def test_no_prediction_is_an_error(
        self, ops: tuple[Any, Any, Any], storage: Storage, make_context: Callable[..., Any]
    ) -> None:
        storage.delete("gs://graft/out/prediction.results-00000-of-00001")
        with pytest.raises(AirflowFailException, match="no prediction in gs://graft/out"):
            ops[1].execute(make_context())

    def test_malformed_prefix_is_refused(self) -> None:
        from graft.operators.mlengine import create_evaluate_ops

        with pytest.raises(ConfigError, match="`task_prefix` begins with a letter"):
            create_evaluate_ops("1x", "TEXT", [], "", (len, []), len, model_uri="gs://m")  # type: ignore[arg-type]
