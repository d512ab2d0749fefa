"""What the sandbox costs: the CPU of whole jobs, as the engine runs them without it and with it."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from benchmarks.training import WORKSPACE, prepare, storage_of, write_pictures
from pipeline.engine.backends import TrainingJob
from pipeline.engine.backends.local import LocalBackend
from pipeline.engine.backends.processes import adopt_orphans
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.settings import EngineSettings
from pipeline.submission.package import MODULE, build_package, build_sdist

PAIRS = 5
GOAL = "<= 1.05"
BACKBONE = "efficientnet_lite0"
OWN, FOREIGN = f"{WORKSPACE}/packages/own.tar.gz", f"{WORKSPACE}/packages/foreign.tar.gz"
NUMBERS = itertools.count()


def measure() -> str:
    """Run both jobs free and restricted by turns; return the section of the page."""
    sandbox = Sandbox.detect("auto")
    if not sandbox.is_active:
        raise SystemExit(f"The sandbox cannot be measured: {sandbox.describe()}.")
    adopt_orphans()  # the daemons of the jobs: what they used is then counted when they have ended
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="graft-bench-"))
        home = Path(temporary)
        stack.enter_context(patch.dict(os.environ, GRAFT_HOME=temporary))  # jobs find their buckets by it
        write_pictures(home / "pictures")
        arguments = prepare(BACKBONE, home / "pictures", home)
        storage_of(home).write_bytes(OWN, build_package().data)
        foreign = build_sdist("foreign", "1", {"foreign/__init__.py": b"", "foreign/task.py": b""})
        storage_of(home).write_bytes(FOREIGN, foreign.data)
        rows = [
            _row("our training job, 200 pictures", GOAL, lambda mode: _train(home, mode, arguments)),
            _row("an empty sdist, built and run", "", lambda mode: _run(home, mode, FOREIGN, "foreign.task")),
        ]
    return "\n".join([SECTION, *rows])


SECTION = f"""## The sandbox

CPU seconds of whole jobs, user and system, from the engine's start of a job to its end: with its
launcher, pip and supervisor. Free and under Landlock by turns; medians of {PAIRS} runs each, and of
the ratios of the pairs.

| job | free | under Landlock | ratio | lowest and highest ratio | goal |
|---|---|---|---|---|---|"""


def _row(what: str, goal: str, run: Callable[[str], float]) -> str:
    run("off")  # nothing is cached the first time
    pairs = [(run("off"), run("auto")) for _ in range(PAIRS)]
    free, restricted = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(with_sandbox / without for without, with_sandbox in pairs)
    spread = f"{ratios[0]:.3f}, {ratios[-1]:.3f}"
    ratio = statistics.median(ratios)
    return f"| {what} | {free:.2f} s | {restricted:.2f} s | {ratio:.3f} | {spread} | {goal} |"


def _train(home: Path, mode: str, arguments: Sequence[str]) -> float:
    storage_of(home).delete_tree(f"{WORKSPACE}/features")  # else the network is not run
    return _run(home, mode, OWN, MODULE, *arguments)


def _run(home: Path, mode: str, package: str, module: str, *arguments: str) -> float:
    """Run a job to its end; return the CPU seconds of all its processes."""
    job_id = f"job{next(NUMBERS)}"
    job_dir = f"{WORKSPACE}/jobs/{job_id}"
    job = TrainingJob(
        job_id=job_id,
        package_uris=(package,),
        python_module=module,
        args=(*arguments, "--job-dir", job_dir) if arguments else (),
        job_dir=job_dir,
        max_running_seconds=1800.0,
        training_input={},
    )
    backend, before = LocalBackend(home, storage_of(home), EngineSettings(sandbox=mode)), _children_cpu()
    asyncio.run(backend.start(job))
    while not (status := asyncio.run(backend.statuses([job_id]))[job_id]).is_over:
        time.sleep(0.1)
    if status.exit_code:
        size = asyncio.run(backend.log_size(job_id))
        raise SystemExit(asyncio.run(backend.log(job_id, 0, size)).decode())
    _collect()
    return _children_cpu() - before


def _collect() -> None:
    """Wait for every child: the resources of a process count when its parent has waited for it."""
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
