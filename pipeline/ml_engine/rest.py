"""The v1 REST API as an `MLEngine`, so that any v1 service can answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from pipeline.errors import PlatformError
from pipeline.ml_engine.discovery import Collection, Page, Predictions, Request
from pipeline.ml_engine.jobs import adopt_job, wait_for_job
from pipeline.ml_engine.operations import Operations
from pipeline.ml_engine.protocol import JobLog, ReaderToken
from pipeline.ml_engine.resources import Job, Model, Version
from pipeline.ml_engine.transport import V1Transport, error_status
from pipeline.ml_engine.version_changes import VersionChange, patch_body, version_changes
from pipeline.ml_v1 import TEST_HEADER, JobState
from pipeline.patience import Clock, SystemClock
from pipeline.types import JsonValue

log = logging.getLogger(__name__)

ResourceT = TypeVar("ResourceT")

MAX_LOG_BYTES = 1_048_576  # the most that the engine reads at a time


class RestMLEngine:
    """ML Engine v1 over HTTP. Not thread-safe: make one for each thread.

    Args:
        endpoint: Base URL, with its scheme.
        project: The project in resource names.
        token: Bearer token.
        timeout_seconds: For one HTTP exchange; a cold version may take long over its first prediction.
        patience_seconds: How long a request that is not answered, or answered 429 or 5xx, is made again.
        operation_seconds: How long a version may take to come up or to go.
        clock: Paces the wait for operations and answers.
        others: Base URLs of further engines on the same database, for when the first does not answer.
    """

    def __init__(
        self,
        endpoint: str,
        project: str,
        token: str,
        *,
        timeout_seconds: float = 120,
        patience_seconds: float = 10,
        operation_seconds: float = 900,
        clock: Clock | None = None,
        others: Sequence[str] = (),
    ) -> None:
        self.project = project
        self._clock = clock or SystemClock()
        self._api = V1Transport(
            endpoint,
            token,
            timeout_seconds=timeout_seconds,
            patience_seconds=patience_seconds,
            clock=self._clock,
            others=others,
        )
        self.endpoint = self._api.endpoint
        self._operations = Operations(self._api, operation_seconds, self._clock)
        self._jobs = self._api.projects.jobs()
        self._models = self._api.projects.models()
        self._versions = self._models.versions()

    def __repr__(self) -> str:
        return f"RestMLEngine(endpoint={self.endpoint!r}, project={self.project!r}, token='***')"

    def close(self) -> None:
        """Close the connections that are kept open; the next call opens them again."""
        self._api.close()

    # Jobs

    def create_job(self, body: Job) -> Job:
        """Submit a job; one with the same id and the same input is adopted instead.

        Raises:
            JobConflict: if the id is taken by a job with another input.
        """
        try:
            return self._api.call(self._jobs.create(parent=self._parent, body=body))
        except PlatformError as error:
            existing = self.get_job(body["jobId"]) if error_status(error) == 409 else None
            if existing is None:
                raise
            return adopt_job(existing, body)

    def get_job(self, job_id: str) -> Job | None:
        """Return the job, or None when there is none."""
        return self._api.find(self._jobs.get(name=f"{self._parent}/jobs/{job_id}"))

    def list_jobs(self) -> list[Job]:
        """Return every job of the project, newest first."""
        return list(self._pages(self._jobs, "jobs", self._parent))

    def cancel_job(self, job_id: str) -> None:
        """Ask a job to end; one that has ended, or never was, is left alone."""
        try:
            self._api.call(self._jobs.cancel(name=f"{self._parent}/jobs/{job_id}", body={}))
        except PlatformError as error:
            if error_status(error) not in (400, 404):
                raise
            log.info("job %s needs no cancelling: %s", job_id, error)

    def job_log(self, job_id: str) -> str:
        """Return all that the job has printed so far."""
        text, piece = "", self.read_job_log(job_id, limit=MAX_LOG_BYTES)
        while piece.text:
            text += piece.text
            piece = self.read_job_log(job_id, offset=piece.next_offset, limit=MAX_LOG_BYTES)
        return text

    def read_job_log(self, job_id: str, *, offset: int = 0, limit: int = 65_536) -> JobLog:
        """Return a piece of what the job has printed. An addition of Graft's engine: v1 has no such call."""
        path = f"{self._parent}/jobs/{job_id}:log?offset={offset}&limit={limit}"
        answer = self._api.read_log(path)
        return JobLog(
            text=answer["log"], next_offset=int(answer["nextOffset"]), is_complete=answer["complete"]
        )

    def read_metrics(self) -> str | None:
        """Return the engine's metrics as Prometheus reads them; None from a service that has none."""
        try:
            return self._api.read_text("metrics")
        except PlatformError as error:
            if error_status(error) == 404:
                return None
            raise

    def wait_job(
        self,
        job_id: str,
        *,
        deadline_seconds: float,
        poll_seconds: float = 2.0,
        clock: Clock | None = None,
        on_state: Callable[[JobState], None] | None = None,
    ) -> Job:
        """Return the job once it succeeded, see `wait_for_job`."""
        return wait_for_job(
            self,
            job_id,
            deadline_seconds=deadline_seconds,
            poll_seconds=poll_seconds,
            clock=clock or self._clock,
            on_state=on_state,
        )

    # Models and versions

    def ensure_model(self, name: str, *, description: str = "") -> Model:
        """Return the model, made if absent."""
        existing = self.get_model(name)
        if existing is not None:
            return existing
        return self.create_model({"name": name, "description": description, "labels": {"made_by": "graft"}})

    def create_model(self, body: Model) -> Model:
        """Create a model; one of this name is returned as it is."""
        try:
            return self._api.call(self._models.create(parent=self._parent, body=body))
        except PlatformError as error:
            existing = self.get_model(body["name"]) if error_status(error) == 409 else None
            if existing is None:
                raise
            return existing

    def get_model(self, name: str) -> Model | None:
        """Return the model, or None when there is none."""
        return self._api.find(self._models.get(name=self._model(name)))

    def list_models(self) -> list[Model]:
        """Return every model of the project."""
        return list(self._pages(self._models, "models", self._parent))

    def delete_model(self, name: str) -> None:
        """Remove a model that has no version; an absent one is left alone."""
        try:
            operation = self._api.call(self._models.delete(name=self._model(name)))
        except PlatformError as error:
            if error_status(error) != 404:
                raise
            return
        self._operations.wait(operation)

    def create_version(self, model: str, body: Version, *, update_existing: bool = False) -> Version:
        """Deploy a version and wait until it is READY; an equal READY one is returned as it is.

        Args:
            model: The model.
            body: The version.
            update_existing: Whether an existing one gets the labels, description and scaling of `body`.

        Raises:
            PlatformError: if it does not come up, or exists and differs; the message names the field.
        """
        name = body["name"]
        existing = self.get_version(model, name)
        if existing is not None and existing.get("state") == "FAILED":
            self.delete_version(model, name)
            existing = None
        if existing is None:
            try:
                operation = self._api.call(self._versions.create(parent=self._model(model), body=body))
                self._operations.wait(operation)
            except PlatformError as error:
                if error_status(error) != 409:
                    raise
        version = self._ready_version(model, body)
        if changes := version_changes(version, body):
            return self._change_version(model, body, changes, update_existing=update_existing)
        return version

    def _change_version(
        self, model: str, body: Version, changes: list[VersionChange], *, update_existing: bool
    ) -> Version:
        if not update_existing:
            change = changes[0]
            raise PlatformError(
                f"Version {body['name']} of {model} exists with another `{change.path}`: {change.present!r}, "
                f"wanted {change.wanted!r}. Delete it, or update it: `update_existing=True`."
            )
        mask = ",".join(change.path for change in changes)
        name = self._version(model, body["name"])
        request = self._versions.patch(name=name, updateMask=mask, body=patch_body(changes))
        self._operations.wait(self._api.call(request))
        return self._ready_version(model, body)

    def get_version(self, model: str, version: str) -> Version | None:
        """Return the version, or None when there is none."""
        return self._api.find(self._versions.get(name=self._version(model, version)))

    def list_versions(self, model: str) -> list[Version]:
        """Return every version of a model; none when the model is absent."""
        return list(self._pages(self._versions, "versions", self._model(model)))

    def set_default(self, model: str, version: str) -> Version:
        """Send the model's traffic to a version."""
        return self._api.call(self._versions.setDefault(name=self._version(model, version), body={}))

    def delete_version(self, model: str, version: str) -> None:
        """Remove a version and wait until it is gone; an absent one is left alone."""
        try:
            operation = self._api.call(self._versions.delete(name=self._version(model, version)))
        except PlatformError as error:
            if error_status(error) != 404:
                raise
            return
        self._operations.wait(operation)

    # Prediction

    def predict(
        self,
        model: str,
        instances: Sequence[JsonValue],
        *,
        version: str | None = None,
        signature_name: str | None = None,
        is_test: bool = False,
    ) -> list[JsonValue]:
        """Return one prediction for each instance.

        Raises:
            PlatformError: if the service refuses, or answers `{"error": ...}` as v1 does for a bad instance.
        """
        body: dict[str, JsonValue] = {"instances": list(instances)}
        if signature_name:
            body["signature_name"] = signature_name
        name = self._version(model, version) if version else self._model(model)
        request = self._api.projects.predict(name=name, body=body)
        if is_test:
            request.headers[TEST_HEADER] = "1"
        answer = self._api.call(request)
        return _predictions(name, answer, len(instances))

    def predict_many(
        self, models: Sequence[str], instances: Sequence[JsonValue], *, signature_name: str | None = None
    ) -> dict[str, list[JsonValue] | PlatformError]:
        """Return the predictions of each model, or why it has none. An addition of Graft's engine to v1."""
        body: dict[str, JsonValue] = {"models": list(models), "instances": list(instances)}
        if signature_name:
            body["signature_name"] = signature_name
        results = self._api.post(f"{self._parent}:predictMany", body)["results"]
        answers: dict[str, list[JsonValue] | PlatformError] = {}
        for name, answer in results.items() if isinstance(results, Mapping) else ():
            try:
                answers[name] = _predictions(name, answer, len(instances))
            except PlatformError as error:
                answers[name] = error
        return answers

    def send_feedback(
        self, model: str, instances: Sequence[JsonValue], labels: Sequence[str], *, origin: str, who: str
    ) -> list[str]:
        """Keep pictures whose answers were wrong. An addition of Graft's engine to v1."""
        body: dict[str, JsonValue] = {
            "instances": list(instances),
            "labels": list(labels),
            "origin": origin,
            "who": who,
        }
        ids = self._api.post(f"{self._model(model)}:feedback", body)["feedback"]
        return [str(id) for id in ids] if isinstance(ids, list) else []

    def create_token(self, model: str, name: str) -> str:
        """Make a token for one model; an addition of Graft's engine to v1."""
        return str(self._api.post(f"{self._model(model)}:createToken", {"name": name})["token"])

    def list_tokens(self, model: str) -> list[ReaderToken]:
        """Return the tokens of a model."""
        answer = json.loads(self._api.read_text(f"v1/{self._model(model)}/tokens"))
        return [
            ReaderToken(id=each["id"], name=each["name"], created=each["created"])
            for each in answer["tokens"]
        ]

    def revoke_token(self, model: str, id: str) -> None:
        """Refuse a token from now on."""
        self._api.post(f"{self._model(model)}:revokeToken", {"id": id})

    # Plumbing

    @property
    def _parent(self) -> str:
        return f"projects/{self.project}"

    def _model(self, name: str) -> str:
        return f"{self._parent}/models/{name}"

    def _version(self, model: str, version: str) -> str:
        return f"{self._model(model)}/versions/{version}"

    def _pages(self, collection: Collection[ResourceT], name: str, parent: str) -> Iterator[ResourceT]:
        request: Request[Page[ResourceT]] | None = collection.list(parent=parent, pageSize=100)
        while request is not None:
            page = self._api.find(request)
            if page is None:
                return
            yield from page.get(name, [])
            request = collection.list_next(request, page)

    def _ready_version(self, model: str, body: Version) -> Version:
        deadline = self._operations.deadline()
        while True:
            version = self.get_version(model, body["name"])
            state = "absent" if version is None else version.get("state", "UNKNOWN")
            if version is not None and version.get("deploymentUri") != body["deploymentUri"]:
                raise PlatformError(
                    f"Version {body['name']} of {model} exists with another `deploymentUri`; delete it. "
                    f"Received: {version.get('deploymentUri')!r}, wanted {body['deploymentUri']!r}"
                )
            if version is not None and state == "READY":
                return version
            if state not in ("CREATING", "UPDATING"):
                why = version.get("errorMessage", "no message") if version else "no message"
                raise PlatformError(f"Version {body['name']} of {model} did not come up: {state}: {why}")
            self._operations.pause(deadline, f"version {body['name']} of {model}")


def _predictions(name: str, answer: JsonValue | Predictions, count: int) -> list[JsonValue]:
    """Return the predictions in an answer.

    Raises:
        PlatformError: if it holds an error, which v1 sends with the status 200, or another number of them.
    """
    values = answer if isinstance(answer, Mapping) else {}
    error = values.get("error")
    if isinstance(error, Mapping):
        status = error.get("code")
        raise PlatformError(f"{name} answered {status}: {error.get('message')}", status=status)
    if error is not None:
        raise PlatformError(f"Prediction by {name} failed: {error}", status=200)
    predictions = values.get("predictions")
    if not isinstance(predictions, list) or len(predictions) != count:
        raise PlatformError(f"{name} did not answer one prediction for each of {count} instances.")
    return predictions
