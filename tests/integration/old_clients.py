"""What clients written for Cloud ML Engine do, request by request: the code users have vendored, shortened.

Airflow: `MLEngineHook` and the operators of provider 14. Kubeflow Pipelines: the component `ml_engine`.
TFX: the runner of `google_cloud_ai_platform`. The article: the client of its notebook. Only the waits
between polls are shorter.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

from googleapiclient.errors import HttpError

JsonDict = dict[str, Any]
Test = Callable[[JsonDict], bool]


class AirflowHook:
    """`airflow.providers.google.cloud.hooks.mlengine.MLEngineHook`."""

    def __init__(self, projects: Any, parent: str = "projects/local") -> None:
        self._projects = projects
        self._parent = parent

    @staticmethod
    def _poll(
        request: Any, is_done: Callable[[JsonDict], bool], is_error: Callable[[JsonDict], bool]
    ) -> JsonDict:
        for attempt in range(300):  # the hook: 9 times, 1, 2, 4 ... 256 s apart
            try:
                response: JsonDict = request.execute()
                if is_error(response):
                    raise ValueError(f"The response contained an error: {response}")
                if is_done(response):
                    return response
            except HttpError as error:
                if error.resp.status != 429:
                    raise
            time.sleep(min(0.05 * 2**attempt, 0.2))
        raise ValueError("Connection could not be established")

    def create_job(self, job: JsonDict, use_existing_job: Test | None = None) -> JsonDict:
        """Submit and wait; a 409 adopts the job there is."""
        try:
            self._projects.jobs().create(parent=self._parent, body=job).execute()
        except HttpError as error:
            if error.resp.status != 409:
                raise
            if use_existing_job is not None and not use_existing_job(self.get_job(job["jobId"])):
                raise
        return self._wait_for_job(job["jobId"])

    def get_job(self, job_id: str) -> JsonDict:
        """Return a job."""
        found: JsonDict = self._projects.jobs().get(name=f"{self._parent}/jobs/{job_id}").execute()
        return found

    def _wait_for_job(self, job_id: str) -> JsonDict:
        while True:
            job = self.get_job(job_id)
            if job["state"] in ("SUCCEEDED", "FAILED", "CANCELLED"):
                return job
            time.sleep(0.1)

    def cancel_job(self, job_id: str) -> JsonDict:
        """Cancel; 400 means that it is complete already."""
        try:
            found: JsonDict = self._projects.jobs().cancel(name=f"{self._parent}/jobs/{job_id}").execute()
        except HttpError as error:
            if error.resp.status == 400:
                return {}
            raise
        return found

    def create_model(self, model: JsonDict) -> JsonDict:
        """Create a model, or return the one there is."""
        try:
            found: JsonDict = self._projects.models().create(parent=self._parent, body=model).execute()
        except HttpError as error:
            if not self._is_existing(error):
                raise
            return self.get_model(model["name"]) or {}
        return found

    @staticmethod
    def _is_existing(error: HttpError) -> bool:
        details = json.loads(error.content)["error"].get("details", [])
        violation = {"field": "model.name", "description": "A model with the same name already exists."}
        return (
            error.resp.status == 409
            and len(details) == 1
            and details[0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
            and details[0]["fieldViolations"] == [violation]
        )

    def get_model(self, name: str) -> JsonDict | None:
        """Return a model, or None."""
        try:
            found: JsonDict = self._projects.models().get(name=f"{self._parent}/models/{name}").execute()
        except HttpError as error:
            if error.resp.status == 404:
                return None
            raise
        return found

    def _finish(self, request: Any) -> JsonDict:
        operation = request.execute()
        return self._poll(
            self._projects.operations().get(name=operation["name"]),
            lambda response: response.get("done", False),
            lambda response: response.get("error") is not None,
        )

    def create_version(self, model: str, body: JsonDict) -> JsonDict:
        """Create a version and wait for the operation."""
        parent = f"{self._parent}/models/{model}"
        return self._finish(self._projects.models().versions().create(parent=parent, body=body))

    def set_default(self, model: str, version: str) -> JsonDict:
        """Make a version the default."""
        name = f"{self._parent}/models/{model}/versions/{version}"
        found: JsonDict = self._projects.models().versions().setDefault(name=name, body={}).execute()
        return found

    def list_versions(self, model: str) -> list[JsonDict]:
        """Return all versions, page by page."""
        result: list[JsonDict] = []
        resource = self._projects.models().versions()
        request = resource.list(parent=f"{self._parent}/models/{model}", pageSize=100)
        while request is not None:
            response = request.execute()
            result.extend(response.get("versions", []))
            request = resource.list_next(previous_request=request, previous_response=response)
        return result

    def delete_version(self, model: str, version: str) -> JsonDict:
        """Delete a version and wait for the operation."""
        name = f"{self._parent}/models/{model}/versions/{version}"
        return self._finish(self._projects.models().versions().delete(name=name))

    def delete_model(self, model: str, *, delete_contents: bool) -> None:
        """Delete a model, with its versions if asked: the default comes last. None there is no error."""
        try:
            if delete_contents:
                versions = self.list_versions(model)
                for is_default in (False, True):
                    for version in versions:
                        if version.get("isDefault", False) == is_default:
                            self.delete_version(model, version["name"].rpartition("/")[2])
            self._finish(self._projects.models().delete(name=f"{self._parent}/models/{model}"))
        except HttpError as error:
            if error.resp.status != 404:
                raise


def airflow_training(hook: AirflowHook, job: JsonDict) -> str:
    """`MLEngineStartTrainingJobOperator.execute`."""
    finished = hook.create_job(job)
    if finished["state"] != "SUCCEEDED":
        raise RuntimeError(finished["errorMessage"])
    return str(finished["jobId"])


def airflow_batch_prediction(hook: AirflowHook, job: JsonDict) -> JsonDict:
    """`MLEngineStartBatchPredictionJobOperator.execute`."""

    def is_same(existing: JsonDict) -> bool:
        return bool(existing.get("predictionInput") == job["predictionInput"])

    finished = hook.create_job(job, is_same)
    if finished["state"] != "SUCCEEDED":
        raise RuntimeError(finished["errorMessage"])
    output: JsonDict = finished["predictionOutput"]
    return output


class Kfp:
    """`kfp_component.google.ml_engine`: create_job and deploy."""

    def __init__(self, projects: Any, parent: str = "projects/local") -> None:
        self._projects = projects
        self._parent = parent

    def create_job(self, job: JsonDict) -> JsonDict:
        """Submit and wait; the job there is counts when its input is the same."""
        jobs = self._projects.jobs()
        name = f"{self._parent}/jobs/{job['jobId']}"
        try:
            jobs.create(parent=self._parent, body=job).execute()
        except HttpError as error:
            if error.resp.status != 409:
                raise
            existing = jobs.get(name=name).execute()
            if any(existing.get(key) != job.get(key) for key in ("trainingInput", "predictionInput")):
                raise RuntimeError("Job with the same id exists, and is another") from error
        while (found := jobs.get(name=name).execute())["state"] not in ("SUCCEEDED", "FAILED", "CANCELLED"):
            time.sleep(0.1)
        if found["state"] != "SUCCEEDED":
            raise RuntimeError(f"Job failed with {found['state']}: {found.get('errorMessage')}")
        result: JsonDict = found
        return result

    def deploy(self, model: str, version: str, uri: str, *, replace: bool = False) -> JsonDict:
        """Create the model if need be, then the version, the default; an equal version is left alone."""
        models, name = self._projects.models(), f"{self._parent}/models/{model}/versions/{version}"
        try:
            models.create(parent=self._parent, body={"name": model}).execute()
        except HttpError as error:
            if error.resp.status != 409:
                raise
        body = {"name": version, "deploymentUri": uri, "runtimeVersion": "2.21", "pythonVersion": "3.11"}
        existing = self._version(name)
        if existing and (replace or existing["state"] == "FAILED"):
            self._wait(models.versions().delete(name=name).execute())
            existing = None
        if existing and any(existing.get(key) != body[key] for key in body if key != "name"):
            raise RuntimeError("Existing version cannot be reused")
        if not existing:
            self._wait(models.versions().create(parent=f"{self._parent}/models/{model}", body=body).execute())
        models.versions().setDefault(name=name).execute()
        return self._version(name) or {}

    def _version(self, name: str) -> JsonDict | None:
        try:
            found: JsonDict = self._projects.models().versions().get(name=name).execute()
        except HttpError as error:
            if error.resp.status == 404:
                return None
            raise
        return found

    def _wait(self, operation: JsonDict) -> JsonDict:
        while not operation.get("done"):
            time.sleep(0.1)
            operation = self._projects.operations().get(name=operation["name"]).execute()
        if operation.get("error"):
            raise RuntimeError(f"Failed to complete operation: {operation['error']}")
        return operation


class Tfx:
    """`tfx.extensions.google_cloud_ai_platform.runner`: bodies in snake_case, `setDefault` with none."""

    def __init__(self, projects: Any, parent: str = "projects/local") -> None:
        self._projects = projects
        self._parent = parent

    def train(self, job_id: str, training_input: JsonDict) -> JsonDict:
        """Submit and wait."""
        body = {"job_id": job_id, "training_input": training_input, "labels": {"tfx_version": "1-21-0"}}
        jobs = self._projects.jobs()
        jobs.create(body=body, parent=self._parent).execute()
        request = jobs.get(name=f"{self._parent}/jobs/{job_id}")
        while (response := request.execute())["state"] not in ("SUCCEEDED", "FAILED", "CANCELLED"):
            time.sleep(0.1)
        if response["state"] in ("FAILED", "CANCELLED"):
            raise RuntimeError(f"Job did not succeed. Detailed response {response}.")
        found: JsonDict = response
        return found

    def create_model(self, name: str) -> bool:
        """Create a model; say whether it was new."""
        body = {"name": name, "regions": ["us-central1"], "labels": {"tfx_version": "1-21-0"}}
        try:
            self._projects.models().create(body=body, parent=self._parent).execute()
        except HttpError as error:
            if error.resp.status == 409:
                return False
            raise RuntimeError(f"Creating model failed: {error}") from error
        return True

    def deploy(self, model: str, version: str, path: str, *, set_default: bool) -> None:
        """Create a version; wait; make it the default."""
        body = {
            "name": version,
            "deployment_uri": path,
            "runtime_version": "2.21",
            "python_version": "3.7",  # as TFX 1.21 has it, whatever Python runs
            "labels": {"tfx_version": "1-21-0"},
        }
        versions = self._projects.models().versions()
        response = versions.create(body=body, parent=f"{self._parent}/models/{model}").execute()
        request = self._projects.operations().get(name=response["name"])
        while not (status := request.execute()).get("done"):
            time.sleep(0.1)
        if "error" in status:
            raise RuntimeError(f"Failed to deploy model: {status['error']}")
        if "response" not in status:
            raise RuntimeError("Done without error, and no response")
        if set_default:
            versions.setDefault(name=f"{self._parent}/models/{model}/versions/{version}").execute()

    def delete_version_if_exists(self, model: str, version: str) -> str:
        """Delete a version; say what came of it."""
        name = f"{self._parent}/models/{model}/versions/{version}"
        try:
            self._projects.models().versions().delete(name=name).execute()
        except HttpError as error:
            if error.resp.status == 404:
                return "missing"
            if error.resp.status == 400:
                return "default, and not the only one"
            raise
        return "deleted"


def article_predict(projects: Any, model: str, picture: bytes) -> list[JsonDict]:
    """The notebook's cell: url-safe base64 text, and `error` looked for in a 200."""
    content = base64.urlsafe_b64encode(picture).decode()
    request = projects.predict(
        name=f"projects/local/models/{model}", body={"instances": [{"inputs": content}]}
    )
    response = request.execute()
    if "error" in response:
        raise RuntimeError(response["error"])
    found: list[JsonDict] = response["predictions"]
    return found
