"""What Graft asks of ML Engine, whichever service answers; resources are v1's own JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.errors import PlatformError
from pipeline.ml_engine.resources import Job, Model, Version
from pipeline.ml_v1 import JobState
from pipeline.patience import Clock
from pipeline.types import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLog:
    """A piece of a job's log.

    Args:
        text: What was printed; empty when there is nothing new.
        next_offset: Where the next piece begins, in bytes.
        is_complete: Whether the job has ended and nothing follows.
    """

    text: str
    next_offset: int
    is_complete: bool


class MLEngine(Protocol):
    """The calls of ML Engine v1 that Graft makes. Errors are `PlatformError` and its kinds."""

    project: str

    def create_job(self, body: Job) -> Job:
        """Submit a job; one with the same id and the same input is adopted instead."""

    def get_job(self, job_id: str) -> Job | None:
        """Return the job, or None when there is none."""

    def list_jobs(self) -> list[Job]:
        """Return every job of the project, newest first."""

    def cancel_job(self, job_id: str) -> None:
        """Ask a job to end; one that has ended, or never was, is left alone."""

    def job_log(self, job_id: str) -> str:
        """Return all that the job has printed so far."""

    def read_job_log(self, job_id: str, *, offset: int = 0, limit: int = 65_536) -> JobLog:
        """Return a piece of what the job has printed, from a byte on; a negative one counts from the end.

        Begin again at `next_offset` until `is_complete`: the job has ended and all of it was read.
        """

    def read_metrics(self) -> str | None:
        """Return the engine's metrics as Prometheus reads them; None from a service that has none."""

    def wait_job(
        self,
        job_id: str,
        *,
        deadline_seconds: float,
        poll_seconds: float = 2.0,
        clock: Clock | None = None,
        on_state: Callable[[JobState], None] | None = None,
    ) -> Job:
        """Return the job once it succeeded."""

    def ensure_model(self, name: str, *, description: str = "") -> Model:
        """Return the model, made if absent."""

    def create_model(self, body: Model) -> Model:
        """Create a model; one of this name is returned as it is."""

    def delete_model(self, name: str) -> None:
        """Remove a model that has no version; an absent one is left alone."""

    def get_model(self, name: str) -> Model | None:
        """Return the model, or None when there is none."""

    def list_models(self) -> list[Model]:
        """Return every model of the project."""

    def create_version(self, model: str, body: Version, *, update_existing: bool = False) -> Version:
        """Deploy a version and wait until it is READY; an equal READY one is returned as it is.

        One with other labels, another description or scaling is an error, or else updated.
        """

    def get_version(self, model: str, version: str) -> Version | None:
        """Return the version, or None when there is none."""

    def list_versions(self, model: str) -> list[Version]:
        """Return every version of a model; none when the model is absent."""

    def set_default(self, model: str, version: str) -> Version:
        """Send the model's traffic to a version."""

    def delete_version(self, model: str, version: str) -> None:
        """Remove a version and wait until it is gone; an absent one is left alone."""

    def predict(
        self,
        model: str,
        instances: Sequence[JsonValue],
        *,
        version: str | None = None,
        signature_name: str | None = None,
        is_test: bool = False,
    ) -> list[JsonValue]:
        """Return one prediction for each instance, from the default version unless one is named.

        Graft's engine does not count a test as traffic, and does not log it.
        """

    def predict_many(
        self, models: Sequence[str], instances: Sequence[JsonValue], *, signature_name: str | None = None
    ) -> dict[str, list[JsonValue] | PlatformError]:
        """Return the predictions of each model, `MODEL` or `MODEL/versions/VERSION`, or why it has none."""

    def send_feedback(
        self, model: str, instances: Sequence[JsonValue], labels: Sequence[str], *, origin: str, who: str
    ) -> list[str]:
        """Keep pictures whose answers were wrong, with their right labels; return their ids."""

    def create_token(self, model: str, name: str) -> str:
        """Make a token that predicts with a model and does nothing else; return it."""

    def list_tokens(self, model: str) -> list[ReaderToken]:
        """Return the tokens of a model, the oldest first."""

    def revoke_token(self, model: str, id: str) -> None:
        """Refuse a token from now on."""

    def close(self) -> None:
        """Close the connections that are kept open; the next call opens them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderToken:
    """What the engine keeps of a token that predicts with one model.

    Args:
        id: Names it.
        name: Who or what it is for.
        created: When it was made, in ISO 8601.
    """

    id: str
    name: str
    created: str


def resource_id(resource: Model | Version) -> str:
    """Return the last part of a resource's `name`: v1 answers full names, callers send short ones."""
    return resource["name"].rpartition("/")[2]


def default_version(model: Model | None) -> str | None:
    """Return the id of a model's default version, if it has one."""
    version = model.get("defaultVersion") if model else None
    return resource_id(version) if version and version.get("name") else None


def label_value(text: str) -> str:
    """Return text as a v1 label value: lower-case letters, digits, `_` and `-`, at most 63."""
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())[:63]
