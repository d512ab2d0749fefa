"""An ML Engine in memory: what the real one promises, without processes or HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.errors import PlatformError, PlatformUnavailable
from pipeline.ml_engine.jobs import adopt_job, wait_for_job
from pipeline.ml_engine.protocol import JobLog, ReaderToken
from pipeline.ml_v1 import JobState

JsonDict = dict[str, Any]


class FakeMLEngine:
    """Jobs end when the test says so, or at once by `run_job`.

    Args:
        run_job: Called with each new job; what it returns is merged into the job.
        answer: Called with (version, instance) for each online prediction.
    """

    project = "local"

    def __init__(
        self,
        run_job: Callable[[JsonDict], JsonDict] | None = None,
        answer: Callable[[str, JsonDict], JsonDict] | None = None,
    ) -> None:
        self.run_job = run_job
        self.answer = answer
        self.jobs: dict[str, JsonDict] = {}
        self.models: dict[str, JsonDict] = {}
        self.versions: dict[str, dict[str, JsonDict]] = {}
        self.cancelled: list[str] = []
        self.silent_calls = 0
        self.metrics: str | None = None
        self.feedback: list[JsonDict] = []
        self.tokens: list[tuple[str, ReaderToken]] = []

    def create_job(self, body: JsonDict) -> JsonDict:
        job_id = body["jobId"]
        if job_id in self.jobs:
            return adopt_job(self.jobs[job_id], body)
        job = self.jobs[job_id] = {**body, "state": "QUEUED"}
        if self.run_job:
            job.update(self.run_job(job))
        return job

    def get_job(self, job_id: str) -> JsonDict | None:
        if self.silent_calls:
            self.silent_calls -= 1
            raise PlatformUnavailable("the engine does not answer")
        return self.jobs.get(job_id)

    def end(self, job_id: str, state: str, message: str = "") -> None:
        self.jobs[job_id].update(state=state, errorMessage=message)

    def list_jobs(self) -> list[JsonDict]:
        return list(self.jobs.values())[::-1]

    def cancel_job(self, job_id: str) -> None:
        self.cancelled.append(job_id)

    def job_log(self, job_id: str) -> str:
        return f"log of {job_id}"

    def read_job_log(self, job_id: str, *, offset: int = 0, limit: int = 65_536) -> JobLog:
        data = self.job_log(job_id).encode()
        start = max(0, len(data) + offset) if offset < 0 else offset
        piece = data[start : start + limit]
        ended = JobState(self.jobs[job_id]["state"]).is_terminal
        return JobLog(
            text=piece.decode(),
            next_offset=start + len(piece),
            is_complete=ended and start + len(piece) >= len(data),
        )

    def send_feedback(self, model: str, instances: Any, labels: Any, *, origin: str, who: str) -> list[str]:
        self.feedback.append({"model": model, "instances": instances, "labels": labels, "who": who})
        return ["0" * 64 for _ in instances]

    def create_token(self, model: str, name: str) -> str:
        self.tokens.append(
            (model, ReaderToken(id=f"{len(self.tokens):016x}", name=name, created="2026-01-01"))
        )
        return f"token-of-{name}"

    def list_tokens(self, model: str) -> list[ReaderToken]:
        return [token for owner, token in self.tokens if owner == model]

    def revoke_token(self, model: str, id: str) -> None:
        self.tokens = [(owner, token) for owner, token in self.tokens if (owner, token.id) != (model, id)]

    def wait_job(self, job_id: str, **arguments: Any) -> JsonDict:
        return wait_for_job(self, job_id, **arguments)

    def ensure_model(self, name: str, *, description: str = "") -> JsonDict:
        self.versions.setdefault(name, {})
        return self.models.setdefault(name, {"name": f"projects/local/models/{name}"})

    def create_model(self, body: JsonDict) -> JsonDict:
        self.versions.setdefault(body["name"], {})
        return self.models.setdefault(body["name"], {**body, "name": f"projects/local/models/{body['name']}"})

    def delete_model(self, name: str) -> None:
        if self.versions.get(name):
            raise PlatformError(f"model {name} has versions", status=400)
        self.models.pop(name, None)
        self.versions.pop(name, None)

    def get_model(self, name: str) -> JsonDict | None:
        return self.models.get(name)

    def read_metrics(self) -> str | None:
        return self.metrics

    def close(self) -> None:
        return

    def list_models(self) -> list[JsonDict]:
        return list(self.models.values())

    def create_version(self, model: str, body: JsonDict, *, update_existing: bool = False) -> JsonDict:
        name = f"projects/local/models/{model}/versions/{body['name']}"
        version = {**body, "name": name, "state": "READY", "createTime": "2026-01-01T00:00:00Z"}
        self.versions[model][body["name"]] = version
        self.models[model].setdefault("defaultVersion", version)
        return version

    def get_version(self, model: str, version: str) -> JsonDict | None:
        return self.versions.get(model, {}).get(version)

    def list_versions(self, model: str) -> list[JsonDict]:
        default = self.models.get(model, {}).get("defaultVersion")
        versions = self.versions.get(model, {}).values()
        return [{**each, "isDefault": True} if each == default else each for each in versions]

    def set_default(self, model: str, version: str) -> JsonDict:
        found = self.models[model]["defaultVersion"] = self.versions[model][version]
        return found

    def delete_version(self, model: str, version: str) -> None:
        gone = self.versions.get(model, {}).pop(version, None)
        if gone is None:
            return
        if self.models[model].get("defaultVersion") == gone:
            if self.versions[model]:
                self.versions[model][version] = gone
                raise PlatformError("the default version cannot be deleted", status=400)
            del self.models[model]["defaultVersion"]

    def predict(
        self,
        model: str,
        instances: list[Any],
        *,
        version: str | None = None,
        signature_name: str | None = None,
        is_test: bool = False,
    ) -> list[Any]:
        if self.answer is None:
            raise PlatformError("this fake answers no prediction", status=404)
        return [self.answer(version or "default", instance) for instance in instances]

    def predict_many(
        self, models: list[str], instances: list[Any], *, signature_name: str | None = None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in models:
            model, _, version = name.partition("/versions/")
            try:
                if model not in self.models:
                    raise PlatformError(f"{model} answered 404: not found", status=404)
                found[name] = self.predict(model, instances, version=version, signature_name=signature_name)
            except PlatformError as error:
                found[name] = error
        return found
