"""Graft's fetch beside img2dataset: the same loopback site, resize and concurrency, start-up counted.

img2dataset gets an environment of its own, made once under the user's cache. Both write to disk, and to
memory where there is a file system of it. What is on disk is removed at the end only: ext4 makes whoever
creates a file search past what was deleted near it a moment ago, which can take half a millisecond.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import partial
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
class TargetFolder:
    """Where the clients write.

    Args:
        name: For the table.
        directory: Where.
        is_roomy: Whether it has room for the files of all runs.
    """

    name: str
    directory: Path
    is_roomy: bool = False

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a new directory for one run."""
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        yield directory
        if not self.is_roomy:
            shutil.rmtree(directory)


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
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as on_disk:
        return compare(theirs, find_places(Path(on_disk)))


def compare(theirs: Path, places: Sequence[TargetFolder]) -> str:
    """Run the clients in turn in each place."""
    lines = [
        "## Fetching pictures",
        "",
        f"{PICTURES} JPEGs of 320 x 320 from a loopback site in its own process, resized to 256 x 256, "
        f"{CONCURRENCY} downloads at a time, the start of every process counted, medians of {ROUNDS} runs of "
        f"each in turn. {IMG2DATASET} writes resized JPEG files in shards, with one process or one a core; "
        "Graft keeps the original, checks it and packs NPZ. Ratios are Graft's to each.",
        "",
        "| written to | latency | client | pictures per CPU-second | pictures a second "
        "| ratio of CPU | ratio of wall |",
        "|---|---|---|---|---|---|---|",
    ]
    cores = os.cpu_count() or 1
    for place, latency in itertools.product(places, (0.0, LATENCY)):
        with site(latency) as port:
            clients = {
                "img2dataset, 1 process": partial(run_theirs, theirs, port, PICTURES, place, 1),
                f"img2dataset, {cores} processes": partial(run_theirs, theirs, port, PICTURES, place, cores),
                "graft": partial(run_ours, port, PICTURES, place),
            }
            rounds = [{name: client() for name, client in clients.items()} for _ in range(ROUNDS)]
        costs = {name: median([costs[name] for costs in rounds]) for name in clients}
        lines += describe(f"{place.name} | {latency * 1000:g} ms", costs)
    with site(0.0) as port:
        few, many = (run_ours(port, count, places[-1]) for count in (FEW, MANY))
    lines += [
        "",
        f"Peak memory of Graft's client: {few.memory / 1e6:.0f} MB for {FEW} pictures, "
        f"{many.memory / 1e6:.0f} MB for {MANY}.",
    ]
    return "\n".join(lines) + "\n"


def median(costs: Sequence[Cost]) -> Cost:
    """Return the middle one of each figure."""
    return Cost(*(statistics.median(values) for values in zip(*map(astuple, costs), strict=True)))


def describe(condition: str, costs: Mapping[str, Cost]) -> list[str]:
    """Return the rows of one condition."""
    ours = costs["graft"]
    return [
        f"| {condition} | {name} | {cost.per_cpu:.0f} | {cost.per_second:.0f} "
        f"| {ours.per_cpu / cost.per_cpu:.2f} | {ours.per_second / cost.per_second:.2f} |"
        for name, cost in costs.items()
    ]


def find_places(on_disk: Path) -> list[TargetFolder]:
    """Return the disk, and the memory file system if it has room."""
    has_room = MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > OUTPUT_BYTES
    return [TargetFolder("disk", on_disk, is_roomy=True)] + [TargetFolder("memory", MEMORY_DISK)] * has_room


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


def run_theirs(command: Path, port: int, count: int, place: TargetFolder, processes: int) -> Cost:
    """Run img2dataset on the site."""
    with place.scratch() as directory:
        urls = write_urls(directory / "urls.csv", port, count)
        arguments = [
            *("--url_list", str(urls), "--output_folder", f"{directory}/out", "--input_format", "csv"),
            *("--url_col", "url", "--output_format", "files", "--processes_count", str(processes)),
            *(
                "--thread_count",
                str(CONCURRENCY // processes),
                "--image_size",
                "256",
                "--resize_mode",
                "border",
            ),
            *("--number_sample_per_shard", "1000", "--enable_wandb", "False"),
        ]
        cost = run([str(command), *arguments], count)
        num_files = len(list((directory / "out").rglob("*.jpg")))
        if num_files != count:
            raise RuntimeError(f"img2dataset gave {num_files} of {count} pictures")
        return cost


def run_ours(port: int, count: int, place: TargetFolder) -> Cost:
    """Run Graft on the site."""
    with place.scratch() as directory:
        urls = write_urls(directory / "urls.csv", port, count)
        command = [sys.executable, "-m", "benchmarks.fetch_client", str(urls), f"{directory}/out"]
        as_in_a_task = {"OPENBLAS_NUM_THREADS": "1"}  # `graft_variables`
        return run(command, count, GRAFT_FETCH_ALLOW=f"127.0.0.1:{port}", **as_in_a_task)


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
