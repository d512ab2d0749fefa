"""Training and batch prediction jobs of v1, under ids that the DAG chooses."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from graft.operators.base import GraftOperator
from graft.operators.jobs import MLEngineJobOperator
from pipeline.errors import ConfigError, PlatformError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from graft.operators.base import StepOutput
    from pipeline.ml_engine.resources import Job, PredictionInput, PredictionOutput, TrainingInput
    from pipeline.types import JsonObject

PRODUCTION, DRY_RUN = "PRODUCTION", "DRY_RUN"
MAX_ID = 128


class V1JobOperator(MLEngineJobOperator):
    """A job whose input the DAG spells out.

    A try after a job that ended badly submits `<job_id>_retry1`, and so on.

    Args:
        job_id: Its id, made valid as Google's provider did it: other characters become `_`, and an id that
            begins with no letter gets `z_` before it.
        labels: Labels of the job.
        mode: `PRODUCTION`, or `DRY_RUN` to only log the request.
        arguments: Those of `MLEngineJobOperator`.
    """

    def __init__(
        self,
        *,
        job_id: str,
        labels: Mapping[str, str] | None = None,
        mode: str = PRODUCTION,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.job_id = job_id
        self.user_labels = labels
        self.mode = mode
        if not job_id:
            raise ConfigError(f"{type(self).__name__}: `job_id` is empty; give the job an id.")
        if mode not in (PRODUCTION, DRY_RUN):
            raise ConfigError(
                f"{type(self).__name__}: `mode` is {PRODUCTION} or {DRY_RUN}. Received: {mode!r}", mode=mode
            )

    @abstractmethod
    def make_job(self, job_id: str) -> Job:
        """Return the job under an id, without labels."""

    def perform(self, context: Context) -> StepOutput:
        """Run the job, or say what would be run."""
        if self.mode == DRY_RUN:
            self.log.info(
                "dry run; this would be submitted: %s", self._make_body(normalize_job_id(self.job_id))
            )
            return None
        return super().perform(context)

    def submit(self, context: Context) -> list[Job]:
        """Submit the job under its id, or adopt it."""
        self.set_job_labels(context)
        job_id = normalize_job_id(self.job_id)
        job = self.submit_once(
            (job_id,),
            self._make_body,
            make_id=lambda attempt: f"{job_id}_retry{attempt}" if attempt else job_id,
        )
        context["ti"].xcom_push(key="job_id", value=job["jobId"])
        return [job]

    def _make_body(self, job_id: str) -> Job:
        job = self.make_job(job_id)
        if self.user_labels:
            job["labels"] = dict(self.user_labels)
        return job


class MLEngineStartTrainingJobOperator(V1JobOperator):
    """Train on ML Engine: install packages, run a module of theirs. Returns the job's id.

    A job that exists with the same input is adopted, with another input it is an error that names the field.

    Args:
        job_id: The job's id.
        region: Where it would run at Google.
        package_uris: The trainer's packages, `gs://` URIs of sdists or wheels.
        training_python_module: The module that runs.
        training_args: Its command line.
        scale_tier: v1's `scaleTier`.
        master_type: v1's `masterType`.
        master_config: v1's `masterConfig`; with an `imageUri` there are no packages and no module.
        runtime_version: The engine's runtime.
        python_version: Its Python.
        job_dir: Passed to the module as `--job-dir`.
        service_account: v1's `serviceAccount`; our engine refuses it by name.
        hyperparameters: v1's `hyperparameters`.
        arguments: Those of `V1JobOperator`.
    """

    template_fields: Sequence[str] = (
        *("job_id", "region", "package_uris", "training_python_module", "training_args", "scale_tier"),
        *("master_type", "master_config", "runtime_version", "python_version", "job_dir", "service_account"),
        *("hyperparameters", "user_labels", "project_id", "impersonation_chain"),
    )

    def __init__(
        self,
        *,
        job_id: str,
        region: str | None = None,
        package_uris: Sequence[str] | None = None,
        training_python_module: str | None = None,
        training_args: Sequence[str] | None = None,
        scale_tier: str | None = None,
        master_type: str | None = None,
        master_config: JsonObject | None = None,
        runtime_version: str | None = None,
        python_version: str | None = None,
        job_dir: str | None = None,
        service_account: str | None = None,
        hyperparameters: JsonObject | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(job_id=job_id, **arguments)
        self.region = region
        self.package_uris = package_uris
        self.training_python_module = training_python_module
        self.training_args = training_args
        self.scale_tier = scale_tier
        self.master_type = master_type
        self.master_config = master_config
        self.runtime_version = runtime_version
        self.python_version = python_version
        self.job_dir = job_dir
        self.service_account = service_account
        self.hyperparameters = hyperparameters
        self._check()

    def _check(self) -> None:
        has_image = isinstance(self.master_config, Mapping) and bool(self.master_config.get("imageUri"))
        if has_image and (self.package_uris or self.training_python_module):
            raise ConfigError(
                f"{self.task_id}: a custom image in `master_config` runs itself; remove `package_uris` and "
                "`training_python_module`, or the image."
            )
        if not has_image and not (self.package_uris and self.training_python_module):
            raise ConfigError(
                f"{self.task_id}: give the trainer as `package_uris` and `training_python_module`. Received: "
                f"package_uris={self.package_uris!r}, training_python_module={self.training_python_module!r}"
            )
        if self.scale_tier == "CUSTOM" and not self.master_type:
            raise ConfigError(f"{self.task_id}: `scale_tier` CUSTOM needs a `master_type`.")

    def make_job(self, job_id: str) -> Job:
        """Return the job; the engine ends it by itself after the deadline."""
        args = [str(arg) for arg in self.training_args] if self.training_args else None
        fields = {
            "scaleTier": self.scale_tier,
            "region": self.region,
            "packageUris": self.package_uris,
            "pythonModule": self.training_python_module,
            "args": args,
            "masterType": self.master_type,
            "masterConfig": self.master_config,
            "runtimeVersion": self.runtime_version,
            "pythonVersion": self.python_version,
            "jobDir": self.job_dir,
            "serviceAccount": self.service_account,
            "hyperparameters": self.hyperparameters,
        }
        limit = {"scheduling": {"maxRunningTime": f"{int(self.wait_seconds)}s"}}
        training = {name: value for name, value in fields.items() if value} | limit
        return {"jobId": job_id, "trainingInput": cast("TrainingInput", training)}

    def complete(self, context: Context, jobs: Sequence[Job]) -> str:
        """Return the id of the job that succeeded."""
        return jobs[0]["jobId"]


class MLEngineStartBatchPredictionJobOperator(V1JobOperator):
    """Let a model predict files. Returns the job's `predictionOutput`.

    Args:
        job_id: The job's id.
        region: Where it would run at Google.
        data_format: Format of the input; v1's `TEXT` and `JSON` are both lines of JSON.
        input_paths: Files, `gs://` URIs; one may end in `*`.
        output_path: Folder of the results.
        model_name: The model, whose default version answers.
        version_name: Another version of the model.
        uri: A SavedModel instead of a model.
        max_worker_count: v1's `maxWorkerCount`.
        runtime_version: The engine's runtime, for a `uri`.
        signature_name: The SavedModel's signature.
        arguments: Those of `V1JobOperator`.
    """

    template_fields: Sequence[str] = (
        *("job_id", "region", "input_paths", "output_path", "model_name", "version_name", "uri"),
        *("max_worker_count", "runtime_version", "signature_name", "user_labels"),
        *("project_id", "impersonation_chain"),
    )

    def __init__(
        self,
        *,
        job_id: str,
        region: str | None = None,
        data_format: str = "JSON",
        input_paths: Sequence[str],
        output_path: str,
        model_name: str | None = None,
        version_name: str | None = None,
        uri: str | None = None,
        max_worker_count: int | None = None,
        runtime_version: str | None = None,
        signature_name: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(job_id=job_id, **arguments)
        self.region = region
        self.data_format = data_format
        self.input_paths = input_paths
        self.output_path = output_path
        self.model_name = model_name
        self.version_name = version_name
        self.uri = uri
        self.max_worker_count = max_worker_count
        self.runtime_version = runtime_version
        self.signature_name = signature_name
        if bool(uri) == bool(model_name) or (version_name and not model_name):
            raise ConfigError(
                f"{self.task_id}: give one of `uri` and `model_name`, and `version_name` only with a "
                f"model. Received: uri={uri!r}, model_name={model_name!r}, version_name={version_name!r}"
            )

    def make_job(self, job_id: str) -> Job:
        """Return the job, with the model by its full name."""
        fields = {
            "dataFormat": self.data_format,
            "inputPaths": self.input_paths,
            "outputPath": self.output_path,
            "region": self.region,
            "uri": self.uri,
            "maxWorkerCount": self.max_worker_count,
            "runtimeVersion": self.runtime_version,
            "signatureName": self.signature_name,
        }
        prediction = {name: value for name, value in fields.items() if value} | self._model()
        return {"jobId": job_id, "predictionInput": cast("PredictionInput", prediction)}

    def _model(self) -> dict[str, str]:
        if not self.model_name:
            return {}
        model = f"projects/{self.project_id or self.connect().project}/models/{self.model_name}"
        return (
            {"versionName": f"{model}/versions/{self.version_name}"}
            if self.version_name
            else {"modelName": model}
        )

    def complete(self, context: Context, jobs: Sequence[Job]) -> PredictionOutput:
        """Return where the predictions are and how many."""
        return jobs[0].get("predictionOutput", {})


class MLEngineTrainingCancelJobOperator(GraftOperator):
    """Cancel a job; one that has ended already is left alone.

    Args:
        job_id: The job's id, made valid as when it was submitted.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("job_id", "project_id", "impersonation_chain")

    def __init__(self, *, job_id: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.job_id = job_id

    def perform(self, context: Context) -> None:
        """Ask the engine to cancel it."""
        engine, job_id = self.connect(), normalize_job_id(self.job_id)
        if engine.get_job(job_id) is None:
            raise PlatformError(f"There is no job {job_id} in project {engine.project}.", status=404)
        engine.cancel_job(job_id)


def normalize_job_id(job_id: str) -> str:
    """Return an id that v1 takes: letters, digits and underscores, a letter first.

    Raises:
        ConfigError: if it is longer than v1 allows.
    """
    name = re.sub(r"[^0-9a-zA-Z]", "_", job_id)
    name = name if name[:1].isalpha() else f"z_{name}"
    if len(name) > MAX_ID:
        raise ConfigError(f"A job id has at most {MAX_ID} characters. Received: {job_id!r}")
    return name
