"""A client that remembers what an engine promised it, whatever becomes of the engine in between."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAVOURITES = {"odd": 0, "even": 1}
LINES = 5
LONG = "600"
PICTURE = [[[0, 128, 255]] * 4] * 4
PROGRAM = """
import os, sys, time
with open(sys.argv[1], 'a') as file:
    file.write('start\\n')
time.sleep(float(sys.argv[2]))
with open(sys.argv[1], 'a') as file:
    file.write('end\\n')
"""
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One exchange; `code` is None if there was no answer to the end."""

    method: str
    path: str
    began: float
    ended: float
    code: int | None = None
    text: str = ""
    retry_after: str | None = None

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def send(port: int, method: str, path: str, body: Any = None) -> Answer:
    """Send one request to an engine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.monotonic()
    try:
        connection.request(method, f"/v1/projects/local/{path}", None if body is None else json.dumps(body))
        answer = connection.getresponse()
        found = {"text": answer.read().decode(), "code": answer.status}
        found["retry_after"] = answer.headers["Retry-After"]
    except (OSError, http.client.HTTPException) as error:
        found = {"text": repr(error)}
    finally:
        connection.close()
    return Answer(method=method, path=path, began=began, ended=time.monotonic(), **found)


class DurableClient(threading.Thread):
    """Creates, polls and cancels jobs, deploys, predicts with and deletes versions, until it is told to stop.

    A request whose answer is lost is sent again until there is one, as a client would: so the client knows at
    the end what must be there. What it sees that cannot be is in `broken`.
    """

    def __init__(self, port: int, number: int, runs: Path, package: str, exports: str) -> None:
        super().__init__(name=f"client{number}")
        self.model = f"m{number}"
        self.runs, self.exports, self.package = runs, exports, package
        self.jobs: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, str] = {}
        self.cancelled: set[str] = set()
        self.versions: dict[str, str] = {}
        self.default: str | None = None
        self.deploying: str | None = None
        self.deleted: set[str] = set()
        self.broken: list[str] = []
        self.exchanges: list[Answer] = []
        self.counts = {"answers": 0, "lost": 0, "predictions": 0}
        self.done = threading.Event()
        self._port = port
        self._number = number
        self._random = random.Random(number)
        self._serial = 0

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any] | None:
        """Send one request; None when nobody answered it to the end."""
        answer = send(self._port, method, path, body)
        self.exchanges.append(answer)
        if answer.code is None:
            self.counts["lost"] += 1
            return None
        self.counts["answers"] += 1
        return answer.code, json.loads(answer.text)

    def insist(self, method: str, path: str, *codes: int, body: Any = None) -> Any:
        """Send a request until one of these answers comes; any other one is a broken promise."""
        while True:
            answer = self.call(method, path, body)
            if answer is not None and answer[0] in codes:
                return answer[1]
            if answer is not None and answer[0] not in (429, 503):
                self.broken.append(f"{method} {path}: {answer}")
                return answer[1]
            time.sleep(0.1)

    def run(self) -> None:
        self.insist("POST", "models", 200, 409, body={"name": self.model})
        steps = (self.create_job, self.poll_job, self.poll_job, self.cancel_job, self.deploy, self.predict)
        while not self.done.is_set():
            self._random.choice(steps)()
            time.sleep(0.05)

    def create_job(self) -> None:
        if len(self.jobs) - len(self.ended) >= 2:
            return
        self._serial += 1
        job_id = f"c{self._number}_{self._serial}"
        kind = "predictionInput" if self._random.random() < 0.25 else "trainingInput"
        value = self._batch(job_id) if kind == "predictionInput" else self._training(job_id)
        self.jobs[job_id] = {kind: value}
        self.insist("POST", "jobs", 200, 409, body={"jobId": job_id, kind: value})

    def _training(self, job_id: str) -> dict[str, Any]:
        seconds = self._random.choice(["0", "0.5", "2", LONG])
        return {
            "region": "local",
            "packageUris": [self.package],
            "pythonModule": "soak.task",
            "args": [str(self.runs / job_id), seconds],
            "jobDir": "gs://graft/soak",  # what the job may write
        }

    def _batch(self, job_id: str) -> dict[str, Any]:
        return {
            "region": "local",
            "dataFormat": "JSON",
            "inputPaths": ["gs://graft/lines.jsonl"],
            "outputPath": f"gs://graft/out/{job_id}",
            "signatureName": "pixels",
            "uri": f"{self.exports}/odd",
        }

    def long_jobs(self) -> set[str]:
        """The jobs that end only when they are cancelled."""
        inputs = {job_id: job.get("trainingInput", {}) for job_id, job in self.jobs.items()}
        return {job_id for job_id, value in inputs.items() if value.get("args", [""])[-1] == LONG}

    def _open_job(self) -> str | None:
        open_jobs = sorted(self.jobs.keys() - self.ended.keys())
        return self._random.choice(open_jobs) if open_jobs else None

    def poll_job(self) -> None:
        if (job_id := self._open_job()) and (answer := self.call("GET", f"jobs/{job_id}")):
            code, job = answer
            if code != 200:
                self.broken.append(f"job {job_id}: {answer}")
            elif job["state"] in ENDED:
                self.ended[job_id] = job["state"]

    def cancel_job(self) -> None:
        if (job_id := self._open_job()) and self._random.random() < 0.15:
            self.cancelled.add(job_id)
            self.insist("POST", f"jobs/{job_id}:cancel", 200, 400)

    def deploy(self) -> None:
        """Take the next of the steps create, READY, setDefault, delete the one before."""
        base = f"models/{self.model}/versions"
        if self.deploying is None:
            self._serial += 1
            favourite = self._random.choice(sorted(FAVOURITES))
            self.deploying = f"v{self._serial}"
            self.versions[self.deploying] = favourite
            body = {"name": self.deploying, "deploymentUri": f"{self.exports}/{favourite}"}
            self.insist("POST", base, 200, 409, body=body)
        elif (answer := self.call("GET", f"{base}/{self.deploying}")) and answer[0] == 200:
            if answer[1]["state"] == "READY":
                self._make_default(base)
            elif answer[1]["state"] != "CREATING":
                self.broken.append(f"version {self.deploying}: {answer}")
                self.deploying = None
        elif answer:
            self.broken.append(f"version {self.deploying}: {answer}")
            self.deploying = None

    def _make_default(self, base: str) -> None:
        before, self.default, self.deploying = self.default, self.deploying, None
        self.insist("POST", f"{base}/{self.default}:setDefault", 200)
        if before is not None:
            del self.versions[before]
            self.deleted.add(before)
            self.insist("DELETE", f"{base}/{before}", 200, 400, 404)  # 400: it is being deleted already

    def predict(self) -> None:
        if self.default is None:
            return
        answer = self.call("POST", f"models/{self.model}:predict", self.request())
        if answer is None or answer[0] == 503:
            return
        self.counts["predictions"] += 1
        if self.favourite_of(answer[1]) != FAVOURITES[self.versions[self.default]]:
            self.broken.append(f"prediction by {self.default}: {answer}")

    @staticmethod
    def request() -> dict[str, Any]:
        return {"instances": [{"inputs": PICTURE}], "signature_name": "pixels"}

    @staticmethod
    def favourite_of(answer: Any) -> int | None:
        """The class that an answer prefers."""
        try:
            outputs = answer["predictions"][0]["outputs"]
        except (KeyError, IndexError, TypeError):
            return None
        return int(outputs.index(max(outputs)))
