"""Ray's Jobs REST API, as far as the engine uses it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from pipeline.errors import AlreadyExists, ConfigError, FailedPrecondition, Internal, Unavailable
from pipeline.types import JsonObject

TIMEOUT = httpx.Timeout(60.0, connect=5.0)  # a submission takes seconds, on a loaded head more
ENDED = frozenset(("SUCCEEDED", "FAILED", "STOPPED"))
KEY = "graft_submission"  # in the metadata of a submission: whose it is
MESSAGE_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RayJob:
    """One submission as Ray sees it.

    Args:
        submission_id: Its id.
        key: What the engine that submitted it wrote in its metadata; empty for others'.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        message: Ray's words about its status.
        exit_code: Of its entrypoint, if Ray saw it end.
    """

    submission_id: str
    key: str
    status: str
    message: str
    exit_code: int | None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> RayJob:
        """Read the description of a submission."""
        message = str(value.get("message") or "").strip()
        return cls(
            submission_id=str(value.get("submission_id") or ""),
            key=str((value.get("metadata") or {}).get(KEY, "")),
            status=str(value.get("status") or ""),
            message=message[-MESSAGE_CHARACTERS:],
            exit_code=value.get("driver_exit_code"),
        )

    @property
    def is_over(self) -> bool:
        """Whether Ray runs nothing of it any more."""
        return self.status in ENDED


class RayJobs:
    """A client of one cluster.

    Args:
        address: Of its dashboard, `http://HOST:8265`.
        token_file: Holds its token; read for each request, so that a new one counts at once.
        transport: Answers requests instead of the network.
    """

    def __init__(
        self, address: str, token_file: Path | None, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.address = address.rstrip("/")
        self._token_file = token_file
        self._transport = transport

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def headers(self) -> dict[str, str]:
        """Return the headers that open the cluster.

        Raises:
            ConfigError: if the file of its token cannot be read, or is empty.
        """
        if self._token_file is None:
            return {}
        try:
            token = self._token_file.read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"GRAFT_ENGINE_RAY_TOKEN_FILE: {self._token_file} cannot be read: {error.strerror}."
            ) from error
        if not token.isascii() or not token.isprintable() or not token:
            raise ConfigError(f"GRAFT_ENGINE_RAY_TOKEN_FILE: {self._token_file} holds no token.")
        return {"Authorization": f"Bearer {token}"}

    async def _call(self, method: str, path: str, body: JsonObject | None = None) -> httpx.Response:
        try:
            async with httpx.AsyncClient(
                verify=self._tls, timeout=TIMEOUT, trust_env=False, transport=self._transport
            ) as client:
                answer = await client.request(
                    method, f"{self.address}/api/jobs/{path}", json=body, headers=self.headers()
                )
        except httpx.HTTPError as error:
            raise Unavailable(f"Ray at {self.address} did not answer: {error!r}.") from error
        if answer.status_code in (401, 403):
            raise FailedPrecondition(
                f"Ray at {self.address} refused the token of GRAFT_ENGINE_RAY_TOKEN_FILE "
                f"({self._token_file or 'not set'}; status {answer.status_code})."
            )
        if answer.status_code in (502, 503, 504):
            raise Unavailable(f"Ray at {self.address} answered with status {answer.status_code}.")
        return answer

    def _refused(self, answer: httpx.Response, what: str) -> Internal:
        text = answer.text.strip()[-MESSAGE_CHARACTERS:]
        return Internal(f"Ray at {self.address} did not {what} (status {answer.status_code}): {text}")

    async def list_jobs(self) -> dict[str, RayJob]:
        """Return all submissions by their ids.

        Raises:
            Unavailable: if Ray does not answer.
        """
        answer = await self._call("GET", "")
        if answer.status_code != 200:
            raise self._refused(answer, "list its jobs")
        jobs = (RayJob.read(value) for value in answer.json())
        return {job.submission_id: job for job in jobs if job.submission_id}

    async def get(self, submission_id: str) -> RayJob | None:
        """Return one submission; None if Ray has none with the id."""
        answer = await self._call("GET", quote(submission_id))
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise self._refused(answer, f"describe {submission_id}")
        return RayJob.read(answer.json())

    async def submit(self, submission_id: str, key: str, request: JsonObject) -> None:
        """Submit a job, or adopt the one that was submitted with this id and key before.

        Raises:
            AlreadyExists: if the id is another's.
            Unavailable: if Ray does not answer; it may have the job or not.
            Internal: with Ray's words, if it refuses the job.
        """
        body: JsonObject = {"submission_id": submission_id, "metadata": {KEY: key}, **request}
        answer = await self._call("POST", "", body)
        if answer.status_code == 200:
            return
        if "already exists" not in answer.text:  # Ray 2.60 says it with status 500
            error = self._refused(answer, f"take {submission_id}")
            raise Unavailable(str(error)) if answer.status_code >= 500 else error  # no agent yet, or busy
        job = await self.get(submission_id)
        if job is not None and job.key != key:
            raise AlreadyExists(
                f"Ray at {self.address} has another submission {submission_id}, which this engine did not "
                "make. Use another job id, or a cluster of its own for each engine."
            )

    async def stop(self, submission_id: str) -> None:
        """Begin to stop a submission; do nothing if it has ended or is unknown."""
        answer = await self._call("POST", f"{quote(submission_id)}/stop")
        if answer.status_code not in (200, 404):
            raise self._refused(answer, f"stop {submission_id}")

    async def delete(self, submission_id: str) -> None:
        """Let Ray forget a submission that has ended: its head keeps all others in memory."""
        answer = await self._call("DELETE", quote(submission_id))
        if answer.status_code not in (200, 404):
            raise self._refused(answer, f"forget {submission_id}")
