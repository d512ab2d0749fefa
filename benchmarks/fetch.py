"""Graft's fetch beside img2dataset: the same loopback site, resize and concurrency, start-up counted.

img2dataset gets an environment of its own, made once under the user's cache. Both write to memory where there
is a file system of it: ext4 charges whoever makes a file for what others on the disk deleted a moment ago,
which on a busy machine is a sixth of all.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graft-bench"
IMG2DATASET = "img2dataset==1.47.0"
PICTURES = 2000
MANY = 10_000
FEW = 1000
LATENCY = 0.02
CONCURRENCY = 16
ROUNDS = 3
MEMORY_DISK = Path("/dev/shm")
OUTPUT_BYTES = 3 * 2**30  # of the largest run


@dataclass(frozen=True)
class Cost:
    """What one client took for so many pictures, all its processes together."""

    pictures: int
    wall: float
    cpu: float
    memory: float

    @property
    def per_cpu(self) -> float:
        """Pictures in a CPU-second."""
        return self.pictures / self.cpu

    @property
    def per_second(self) -> float:
        """Pictures in a second."""
        return self.pictures / self.wall


def measure() -> str:
    """Return the section of docs/performance.md."""
    theirs = find_img2dataset()
    lines = [
        "## Fetching pictures",
        "",
        f"{PICTURES} JPEGs of 320 x 320 from a loopback site in its own process, resized to 256 x 256, "
        f"{CONCURRENCY} downloads at a time, the start of every process counted, medians of {ROUNDS} runs of "
        f"each in turn. {IMG2DATASET} with one process writes resized JPEG files in shards; Graft keeps the "
        f"original, checks it and packs NPZ. Both write to {'memory' if find_room() else 'disk'}.",
        "",
        "| latency | client | pictures per CPU-second | pictures a second | ratio of CPU | ratio of wall |",
        "|---|---|---|---|---|---|",
    ]
    for latency in (0.0, LATENCY):
        with site(latency) as port:
            pairs = [(run_theirs(theirs, port, PICTURES), run_ours(port, PICTURES)) for _ in range(ROUNDS)]
        lines += describe(latency, *(median(costs) for costs in zip(*pairs, strict=True)))
    with site(0.0) as port:
        few, many = run_ours(port, FEW), run_ours(port, MANY)
    lines += [
        "",
        f"Peak memory of Graft's client: {few.memory / 1e6:.0f} MB for {FEW} pictures, "
        f"{many.memory / 1e6:.0f} MB for {MANY}.",
    ]
    return "\n".join(lines) + "\n"


def median(costs: Sequence[Cost]) -> Cost:
    """Return the middle one of each figure."""
    return Cost(*(statistics.median(values) for values in zip(*map(astuple, costs), strict=True)))


def describe(latency: float, other: Cost, ours: Cost) -> list[str]:
    """Return the two rows of one latency."""
    return [
        f"| {latency * 1000:g} ms | img2dataset | {other.per_cpu:.0f} | {other.per_second:.0f} | 1 | 1 |",
        f"| {latency * 1000:g} ms | graft | {ours.per_cpu:.0f} | {ours.per_second:.0f} "
        f"| {ours.per_cpu / other.per_cpu:.2f} | {ours.per_second / other.per_second:.2f} |",
    ]


def find_room() -> Path | None:
    """Return the memory file system if it has room, None for the disk."""
    has_room = MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > OUTPUT_BYTES
    return MEMORY_DISK if has_room else None


def find_img2dataset() -> Path:
    """Return the command, making its environment if it is not there."""
    command = CACHE / "img2dataset" / "bin" / "img2dataset"
    if not command.exists():
        environment = command.parent.parent
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        installer = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", IMG2DATASET]
        subprocess.run(installer, check=True)
    return command


@contextmanager
def site(latency: float) -> Iterator[int]:
    """Run the site and give its port."""
    command = [sys.executable, "-m", "benchmarks.fetch_site", str(latency)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101
            yield int(process.stdout.readline())
        finally:
            process.kill()


def run_theirs(command: Path, port: int, count: int) -> Cost:
    """Run img2dataset on the site."""
    with tempfile.TemporaryDirectory(dir=find_room()) as directory:
        urls = write_urls(Path(directory) / "urls.csv", port, count)
        arguments = [
            *("--url_list", str(urls), "--output_folder", f"{directory}/out", "--input_format", "csv"),
            *("--url_col", "url", "--output_format", "files", "--processes_count", "1"),
            *("--thread_count", str(CONCURRENCY), "--image_size", "256", "--resize_mode", "border"),
            *("--number_sample_per_shard", "1000", "--enable_wandb", "False"),
        ]
        cost = run([str(command), *arguments], count)
        found = len(list(Path(directory, "out").rglob("*.jpg")))
        if found != count:
            raise RuntimeError(f"img2dataset gave {found} of {count} pictures")
        return cost


def run_ours(port: int, count: int) -> Cost:
    """Run Graft on the site."""
    with tempfile.TemporaryDirectory(dir=find_room()) as directory:
        urls = write_urls(Path(directory) / "urls.csv", port, count)
        command = [sys.executable, "-m", "benchmarks.fetch_client", str(urls), f"{directory}/out"]
        return run(command, count, GRAFT_FETCH_ALLOW=f"127.0.0.1:{port}")


def write_urls(path: Path, port: int, count: int) -> Path:
    """Write the list of addresses."""
    lines = [f"http://127.0.0.1:{port}/{number}.jpg,{'ab'[number % 2]}" for number in range(count)]
    path.write_text("url,label\n" + "\n".join(lines) + "\n")
    return path


def run(command: list[str], count: int, **environment: str) -> Cost:
    """Run a client to its end and say what it and its children took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
        )
        memory = watch_memory(process)
        wall = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            raise RuntimeError(log.read().decode()[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(count, wall, cpu, memory)


def watch_memory(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end and return the peak of the process's memory."""
    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    process.wait()
    return peak
