"""One trunk and many heads: memory, another version, one picture for all, mixed traffic and faults."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from benchmarks.serving import CORES, Server, get, load, post, start, train
from benchmarks.training import write_pictures
from pipeline.artifacts.model_files import HEAD, TFLITE_NETWORK
from pipeline.npz import read_npz, write_npz
from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.tflite.manifest import digest_files, read_manifest
from pipeline.tflite.network import TFLiteNetwork, read_classifier_head

NUM_VERSIONS = int(os.environ.get("BENCH_VERSIONS", "50"))
NUM_PICTURES = int(os.environ.get("BENCH_PICTURES", "1000"))
NUM_SWITCHES = 100
SECONDS = float(os.environ.get("BENCH_SECONDS", "6"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECTION = """## One trunk, many heads

EfficientNet-Lite0 with the head of the reference, Dense(1024) and two classes. The features of
pictures are not kept (`GRAFT_ENGINE_FEATURE_BYTES=0`), so that each picture is computed.

| what | measured | goal | holds |
|---|---|---|---|"""


def measure() -> str:
    """Return the section."""
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as temporary:
        folder, home = Path(temporary) / "pictures", Path(temporary) / "home"
        write_pictures(folder)
        model = train("efficientnet_lite0", folder, home)
        for number in range(NUM_VERSIONS + 1):
            write_variant(model, home / "buckets" / "graft" / "variants" / str(number), number)
        with serve(home) as server:
            lines = [
                *memory(server),
                *one_picture(server, home),
                *traffic(server, folder),
                *faults(server, folder),
            ]
    busy = f"Load of the machine while it was measured: {os.getloadavg()[1]:.1f} on {CORES} cores."
    return "\n".join([SECTION, *lines, "", busy, "", NOTES])


NOTES = """*Separate processes* is what a process for each version would need: so many times what one version
needs here, and so many times the CPU of one picture in a request of its own. The serving process is
that of the trunk; the API process is counted apart. *Back* is the longest time that a client waited
for an answer."""


def write_variant(model: Path, directory: Path, number: int) -> None:
    """Write a version with another head; the files that it shares with the model are linked."""
    shutil.copytree(model, directory, copy_function=os.link)
    random = np.random.default_rng(number)
    arrays = {
        name: (array * random.uniform(0.9, 1.1, array.shape)).astype(np.float32)
        for name, array in read_npz(model / HEAD).items()
    }
    (directory / HEAD).unlink()
    (directory / HEAD).write_bytes(write_npz(arrays))
    manifest = read_manifest(model)
    (directory / "graft" / "light.json").unlink()
    replace(manifest, files=digest_files(directory)).write(directory)


@contextmanager
def serve(home: Path) -> Iterator[Server]:
    """Start our engine."""
    words = ["pipeline.engine", "--port", "PORT", "--home", str(home)]
    server = start(
        "engine",
        words,
        "/v1/projects/local",
        "/healthz",
        "v1",
        GRAFT_HOME=str(home),
        GRAFT_ENGINE_FEATURE_BYTES="0",
    )
    try:
        yield server
    finally:
        server.stop()


def deploy(server: Server, number: int, version: str = "v1", variant: int | None = None) -> float:
    """Make a version and wait until it is READY; return the seconds."""
    model = f"{server.url}/models/m{number}"
    if version == "v1":
        post(f"{server.url}/models", {"name": f"m{number}"})
    uri = f"gs://graft/variants/{number if variant is None else variant}"
    started = time.monotonic()
    post(f"{model}/versions", {"name": version, "deploymentUri": uri, "runtimeVersion": "2.21"})
    while (resource := get(f"{model}/versions/{version}"))["state"] != "READY":
        if resource["state"] == "FAILED":
            raise RuntimeError(resource["errorMessage"])
        time.sleep(0.02)
    return time.monotonic() - started


def serving(server: Server) -> list[psutil.Process]:
    """Return the processes that serve."""
    return psutil.Process(server.process.pid).children(recursive=True)


def megabytes(processes: list[psutil.Process]) -> float:
    """Return the memory of processes; what they share is counted once."""
    rollups = [Path(f"/proc/{each.pid}/smaps_rollup").read_text() for each in processes]
    return sum(int(rollup.partition("\nPss:")[2].split()[0]) for rollup in rollups) / 1024


def ask_all(server: Server, picture: bytes) -> dict[str, list[float]]:
    """Return what each classifier says of a picture."""
    names = [f"m{number}" for number in range(NUM_VERSIONS)]
    body = {"models": names, "instances": [{"b64": base64.b64encode(picture).decode()}]}
    results = post(f"{server.url}:predictMany", body)["results"]
    return {name: results[name]["predictions"][0]["outputs"] for name in names}


def line(what: str, measured: str, goal: str, holds: bool) -> str:
    """Return a row of the table."""
    return f"| {what} | {measured} | {goal} | {'yes' if holds else '**no**'} |"


def memory(server: Server) -> list[str]:
    """Deploy versions; return the rows about memory, processes and the next version."""
    deploy(server, 0)
    ask(server, 0)
    one, count = megabytes(serving(server)), len(serving(server))
    for number in range(1, NUM_VERSIONS):
        deploy(server, number)
    ready = megabytes(serving(server))
    for number in range(NUM_VERSIONS):
        ask(server, number)
    used = megabytes(serving(server))
    limit = 1.5 * one + NUM_VERSIONS * 6
    seconds = deploy(server, NUM_VERSIONS)
    grown = len(serving(server)) - count
    api = megabytes([psutil.Process(server.process.pid)])
    return [
        line(
            f"memory of the serving process: 1 version, {NUM_VERSIONS} versions READY, all asked (keyed)",
            f"{one:.0f} MB, {ready:.0f} MB, {used:.0f} MB; separate processes {one * NUM_VERSIONS:,.0f} MB; "
            f"API process {api:.0f} MB",
            f"<= 1.5 x one + {NUM_VERSIONS} x 6 MB = {limit:.0f} MB",
            max(ready, used) <= limit,
        ),
        line(
            f"version {NUM_VERSIONS + 1} READY; processes more",
            f"{seconds:.2f} s; {grown}",
            "< 2 s; none",
            seconds < 2 and grown == 0,
        ),
    ]


def ask(server: Server, number: int) -> None:
    """Ask one version for all that it keeps in memory."""
    picture = noise(10_000 + number)
    instance = {"key": "k", "inputs": {"b64": base64.b64encode(picture).decode()}}
    answer = post(
        f"{server.url}/models/m{number}:predict", {"instances": [instance], "signature_name": "keyed"}
    )
    if "predictions" not in answer:
        raise RuntimeError(str(answer))


def noise(seed: int) -> bytes:
    """Return a JPEG that no other seed gives."""
    from PIL import Image

    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (30, 30, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((299, 299)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def one_picture(server: Server, home: Path) -> list[str]:
    """Ask all classifiers for pictures, together and one by one; compare with each model on its own."""
    directories = [home / "buckets" / "graft" / "variants" / str(number) for number in range(NUM_VERSIONS)]
    heads = [read_classifier_head(directory, read_manifest(directory)) for directory in directories]
    network, spec = TFLiteNetwork(directories[0] / TFLITE_NETWORK), read_manifest(directories[0]).spec
    largest = together = 0.0
    for seed in range(NUM_PICTURES):
        picture = noise(seed)
        before = server.cpu()
        answers = ask_all(server, picture)
        together += server.cpu() - before
        pooled = network.pool(resize_picture(decode_picture(picture), spec)[None])
        for number, head in enumerate(heads):
            expected = head.predict(pooled)[0]
            largest = max(largest, float(np.abs(np.float32(answers[f"m{number}"]) - expected).max()))
    alone, count = server.cpu(), 300
    for seed in range(count):
        body = {"instances": [{"b64": base64.b64encode(noise(20_000 + seed)).decode()}]}
        post(f"{server.url}/models/m{seed % NUM_VERSIONS}:predict", body)
    alone = (server.cpu() - alone) / count * 1000
    together *= 1000 / NUM_PICTURES
    share = together / (alone * NUM_VERSIONS)
    return [
        line(
            f"CPU of one picture for {NUM_VERSIONS} classifiers, whole engine",
            f"{together:.1f} ms; in {NUM_VERSIONS} requests {alone * NUM_VERSIONS:.0f} ms "
            f"({alone:.1f} ms each): {1 / share:.1f} x less",
            "<= 1/10",
            share <= 0.1,
        ),
        line(
            f"largest difference from each model alone, {NUM_PICTURES:,} pictures x {NUM_VERSIONS}",
            f"{largest:.1e}",
            "<= 1e-6",
            largest <= 1e-6,
        ),
    ]


def traffic(server: Server, pictures: Path) -> list[str]:
    """Load one classifier and all of them in turn."""
    urls = [f"{server.url}/models/m{number}:predict" for number in range(NUM_VERSIONS)]
    rates: dict[int, list[dict[str, float]]] = {1: [], NUM_VERSIONS: []}
    for _ in range(ROUNDS):
        for count, results in rates.items():
            results.append(load(replace(server, url=",".join(urls[:count])), 32, SECONDS, pictures))
    one, many = (statistics.median(each["rate"] for each in results) for results in rates.values())
    cpus = [statistics.median(each["cpu_ms"] for each in results) for results in rates.values()]
    return [
        line(
            f"32 clients, {NUM_VERSIONS} classifiers in turn against one",
            f"{many:.0f} against {one:.0f} pictures/s: {many / one:.2f} x; CPU {cpus[1]:.2f} against "
            f"{cpus[0]:.2f} ms: {cpus[0] / cpus[1]:.2f} x",
            ">= 0.95 x",
            many / one >= 0.95,
        )
    ]


def faults(server: Server, pictures: Path) -> list[str]:
    """Switch versions and kill the trunk under 16 clients."""
    deploy(server, 0, "v2", 1)

    def switch() -> None:
        for number in range(NUM_SWITCHES):
            post(f"{server.url}/models/m0/versions/v{1 + number % 2}:setDefault", {})
            time.sleep(0.02)

    def kill() -> None:
        time.sleep(2)
        for process in serving(server):
            process.send_signal(signal.SIGKILL)

    switched, killed = under_load(server, pictures, switch), under_load(server, pictures, kill)
    return [
        line(
            f"{NUM_SWITCHES} `setDefault` under 16 clients",
            f"{switched['failed']} of {switched['count']:,} requests failed, longest "
            f"{switched['max'] / 1000:.2f} s",
            "0 failed",
            not switched["failed"],
        ),
        line(
            "`kill -9` of the trunk under 16 clients",
            f"{killed['failed']} of {killed['count']:,} requests failed, back in "
            f"{killed['max'] / 1000:.2f} s",
            "0 failed, < 2 s",
            not killed["failed"] and killed["max"] < 2000,
        ),
    ]


def under_load(server: Server, pictures: Path, act: Callable[[], None]) -> dict[str, float]:
    """Do something while 16 clients ask; return what they saw."""
    url = f"{server.url}/models/m0:predict"
    words = [url, "16", str(2 * SECONDS), "v1", str(pictures), "--count-failures"]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving_load", *words], stdout=subprocess.PIPE
    ) as clients:
        act()
        output = clients.communicate()[0]
    result: dict[str, float] = json.loads(output)
    return result
