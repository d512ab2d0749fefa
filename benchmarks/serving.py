"""Online prediction: our engine against a loop without a server, plain FastAPI and LitServe, in one run."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from benchmarks.training import WORKSPACE, prepare, run, write_pictures

CORES = len(os.sched_getaffinity(0))
CLIENTS = (1, 8, 32)
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
BACKBONES = ("efficientnet_lite0", "inception_v3")
ENGINE, PLAIN, LIT = "(b) our engine", "(c) FastAPI, SavedModel", "(d) LitServe, batching"


@dataclass(slots=True)
class Server:
    """A running server.

    Args:
        name: In the table.
        url: Where it predicts.
        kind: Of its bodies.
        process: The process it was started as.
    """

    name: str
    url: str
    kind: str
    process: subprocess.Popen[bytes]

    def tree(self) -> list[psutil.Process]:
        """Return all its processes."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu(self) -> float:
        """Return the CPU seconds it has used."""
        return sum(sum(process.cpu_times()[:2]) for process in self.tree())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        for process in self.tree():
            process.send_signal(number)

    def stop(self) -> None:
        """End all its processes."""
        processes = self.tree()
        self.signal(signal.SIGCONT)
        self.process.terminate()
        for process in psutil.wait_procs(processes, timeout=10)[1]:
            process.kill()
        self.process.wait()


def measure() -> str:
    """Return the section of both backbones."""
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as temporary:
        folder = Path(temporary) / "pictures"
        write_pictures(folder)
        parts = [compare(name, folder, Path(temporary) / name) for name in BACKBONES]
    rows = [row for table, _ in parts for row in table]
    goals = [goal for _, lines in parts for goal in lines]
    load = f"Load of the machine while it was measured: {os.getloadavg()[1]:.1f} on {CORES} cores."
    return "\n".join([SECTION, *rows, "", load, "", *goals, "", NOTES])


SECTION = """## Online prediction

JPEGs of 299x299, one a request. Pictures a second with the client's CPU subtracted.

| backbone | clients | what | pictures/s | p50 ms | p99 ms | CPU ms a picture | client's CPU |
|---|---|---|---|---|---|---|---|"""
NOTES = f"""*(a)* is one process without a server that decodes and forwards the same JPEGs with our runtime,
the best of batches of 1, 8 and 32 and of two ways to use all cores; *forward* is its network alone. *(c)*
runs the SavedModel in TensorFlow, one request at a time; *(d)* has the runtime of our engine, batches
of 8 and 5 ms of patience, in an environment of its own. Medians of {ROUNDS} rounds of {SECONDS:g} s in
turn; servers that are not asked are stopped. The client is a process on the same cores: what it used is
taken off the time. *CPU ms a picture* is of the server alone; it holds on a busy machine, where the
other figures are as much the work of other programs as ours."""


def compare(name: str, pictures: Path, home: Path) -> tuple[list[str], list[str]]:
    """Return the rows and the goals of one backbone."""
    model = train(name, pictures, home)
    rounds: dict[tuple[int, str], list[dict[str, float]]] = {}
    with ExitStack() as stack:
        engine, facts = stack.enter_context(serve_engine(home))
        servers = [engine, stack.enter_context(serve_plain(model))]
        if (lit := stack.enter_context(serve_lit(model, home))) is not None:
            servers.append(lit)
        for server in servers:
            load(server, 8, 1, pictures)
            server.signal(signal.SIGSTOP)
        for _ in range(ROUNDS):
            for kind, result in loop(model, pictures).items():
                rounds.setdefault((0, kind), []).append(result)
            for clients in CLIENTS:
                for server in servers:
                    server.signal(signal.SIGCONT)
                    result = load(server, clients, SECONDS, pictures)
                    server.signal(signal.SIGSTOP)
                    rounds.setdefault((clients, server.name), []).append(result)
    medians = {key: median(results) for key, results in rounds.items()}
    return [row(name, *key, each) for key, each in medians.items()], goals_of(name, medians, facts)


def median(results: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {key: statistics.median(each[key] for each in results) for key in results[0] if key != "name"}


def row(name: str, clients: int, what: str, each: dict[str, float]) -> str:
    """Return one row of the table."""
    latency = f"{each['p50']:.1f} | {each['p99']:.1f}" if clients else " | "
    client = f"{each['client']:.0%}" if clients else ""
    cells = [name, str(clients or ""), what, f"{each['rate']:.1f}", latency, f"{each['cpu_ms']:.2f}", client]
    return f"| {' | '.join(cells)} |"


def goals_of(name: str, medians: dict[tuple[int, str], dict[str, float]], facts: dict[str, Any]) -> list[str]:
    """Say which goals hold, and by how much the others are missed."""
    alone, engine = medians[0, "(a) loop"], medians[32, ENGINE]
    eight = medians[8, ENGINE]
    plain = medians[32, PLAIN]
    lines = [
        ratio(name, "(b) of (a) at 32 clients", engine["rate"] / alone["rate"], 0.8),
        ratio(name, "(a)'s CPU a picture of (b)'s", alone["cpu_ms"] / engine["cpu_ms"], 0.8),
        ratio(name, "(b) of (c) at 32 clients", engine["rate"] / plain["rate"], 2),
        ratio(name, "(c)'s CPU a picture of (b)'s", plain["cpu_ms"] / engine["cpu_ms"], 2),
        f"* {name}: no server with this runtime can use less CPU than (a): (c)'s CPU a picture is "
        f"{plain['cpu_ms'] / alone['cpu_ms']:.2f} times (a)'s.",
        ratio(name, "3 x p50 of p99 at 8 clients", 3 * eight["p50"] / eight["p99"], 1),
        ratio(name, "5 s of READY after versions.create", 5 / facts["ready_seconds"], 1),
    ]
    if (lit := medians.get((32, LIT))) is not None:
        lines.append(ratio(name, "(b) of (d) at 32 clients", engine["rate"] / lit["rate"], 1))
    memory = f"{facts['megabytes']:.0f} MB (PSS) in {facts['processes']} processes"
    holds = facts["megabytes"] <= 600 and not facts["tensorflow"]
    text = "none of TensorFlow" if not facts["tensorflow"] else "TensorFlow among them"
    lines.append(f"* {name}: the whole engine, {memory}, {text}: {'holds' if holds else 'missed'} (600 MB).")
    return lines


def ratio(name: str, what: str, value: float, goal: float) -> str:
    """Return one goal's line."""
    verdict = "holds" if value >= goal else f"missed by {1 - value / goal:.0%}"
    return f"* {name}: {what}: {value:.2f}, goal {goal:g}: {verdict}."


def train(name: str, pictures: Path, home: Path) -> Path:
    """Train a model as the DAG does; return its directory."""
    home.mkdir()
    job_dir = f"{WORKSPACE}/jobs/1"
    arguments = [*prepare(name, pictures, home), "--job-dir", job_dir]
    run([sys.executable, "-m", "pipeline.trainer.task", *arguments], home)
    return home / "buckets" / "graft" / "jobs" / "1" / "model"


def load(server: Server, clients: int, seconds: float, pictures: Path) -> dict[str, float]:
    """Load a server; return its measurements."""
    before = server.cpu()
    words = [server.url, str(clients), str(seconds), server.kind, str(pictures)]
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving_load", *words], stdout=subprocess.PIPE, check=True
    ).stdout
    result = json.loads(output)
    used = server.cpu() - before
    share = result["cpu"] / (CORES * result["wall"])
    return {
        "rate": result["count"] / result["wall"] / (1 - share),
        "client": share,
        "cpu_ms": used / result["count"] * 1000,
        "p50": result["p50"],
        "p99": result["p99"],
    }


def loop(model: Path, pictures: Path) -> dict[str, dict[str, float]]:
    """Run the loop without a server."""
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving_loop", str(model), str(pictures), str(SECONDS / 4)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        start_new_session=True,  # as our workers have: a busy machine shares its time out by session
    ).stdout
    result = json.loads(output)
    return {"(a) loop": result["loop"], "forward": result["forward"]}


def start(name: str, words: list[str], path: str, health: str, kind: str, **environ: str) -> Server:
    """Start a server and wait until it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in words)]
    process = subprocess.Popen(
        command,
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"} | environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = Server(name, f"http://127.0.0.1:{port}{path}", kind, process)
    until = time.monotonic() + 180
    while True:
        try:
            requests.get(f"http://127.0.0.1:{port}{health}", timeout=5).raise_for_status()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{name} did not start: {' '.join(command)}") from error
            time.sleep(0.1)
        else:
            return server


@contextmanager
def serve_engine(home: Path) -> Iterator[tuple[Server, dict[str, Any]]]:
    """Start our engine, deploy the model, and note how long that took and what it costs."""
    path = "/v1/projects/local/models/bench:predict"
    server = start(
        ENGINE,
        ["pipeline.engine", "--port", "PORT", "--home", str(home)],
        path,
        "/healthz",
        "v1",
        GRAFT_HOME=str(home),
        GRAFT_ENGINE_FEATURE_BYTES="0",  # the same pictures are sent again and again: none may be remembered
    )
    try:
        models = server.url.removesuffix("/bench:predict")
        post(models, {"name": "bench"})
        started = time.monotonic()
        body = {"name": "v1", "deploymentUri": f"{WORKSPACE}/jobs/1/model", "runtimeVersion": "2.21"}
        post(f"{models}/bench/versions", body)
        while (version := get(f"{models}/bench/versions/v1"))["state"] != "READY":
            if version["state"] == "FAILED":
                raise RuntimeError(version["errorMessage"])
            time.sleep(0.02)
        yield server, {"ready_seconds": time.monotonic() - started, **facts_of(server)}
    finally:
        server.stop()


def facts_of(server: Server) -> dict[str, Any]:
    """Return the memory and the libraries of a server's processes."""
    kilobytes, libraries = 0, ""
    for process in server.tree():
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        kilobytes += int(rollup.partition("\nPss:")[2].split()[0])
        libraries += Path(f"/proc/{process.pid}/maps").read_text()
    return {
        "megabytes": kilobytes / 1024,
        "processes": len(server.tree()),
        "tensorflow": "libtensorflow" in libraries,
    }


@contextmanager
def serve_plain(model: Path) -> Iterator[Server]:
    """Start the SavedModel behind plain FastAPI."""
    server = start(PLAIN, ["benchmarks.rivals.plain", str(model), "PORT"], "/predict", "/health", "plain")
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def serve_lit(model: Path, home: Path) -> Iterator[Server | None]:
    """Install LitServe beside our environment and start it; None where it cannot be installed."""
    site = home / "litserve"
    uv = Path(sys.executable).parent / "uv"
    command = [
        str(uv),
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        "--target",
        str(site),
        "litserve",
    ]
    if subprocess.run(command, check=False).returncode != 0:
        print("LitServe could not be installed here; it is left out.", flush=True)
        yield None
        return
    server = start(
        LIT,
        ["benchmarks.rivals.lit", str(model), "PORT"],
        "/predict",
        "/health",
        "plain",
        PYTHONPATH=str(site),
    )
    try:
        yield server
    finally:
        server.stop()


def post(url: str, body: dict[str, Any]) -> Any:
    """Send JSON and return the answer's."""
    answer = requests.post(url, json=body, timeout=60)
    answer.raise_for_status()
    return answer.json()


def get(url: str) -> Any:
    """Return an answer's JSON."""
    answer = requests.get(url, timeout=60)
    answer.raise_for_status()
    return answer.json()
