"""What the sandbox costs: the CPU of one program of TensorFlow's, free and under a training job's policy."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.engine.sandbox import system
from pipeline.engine.sandbox.landlock import Policy
from pipeline.engine.sandbox.sandbox import Sandbox

RUNS = 5
GOAL = 1.05
# What a job does: it imports TensorFlow, reads pictures one by one, trains, and exports.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np, tensorflow as tf

folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
for number in range(500):
    np.save(folder / f"{number}.npy", rng.random((64, 64, 3), np.float32))
pictures = np.stack([np.load(folder / f"{number}.npy") for number in range(500)])
model = tf.keras.Sequential([tf.keras.layers.Conv2D(16, 3), tf.keras.layers.GlobalAveragePooling2D(),
    tf.keras.layers.Dense(2, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(pictures, np.arange(500) % 2, epochs=3, verbose=0)
model.export(str(folder / "model"), verbose=False)
"""


def measure() -> str:
    """Run the program free and restricted by turns; return the section of the page."""
    sandbox = Sandbox.detect("auto")
    if not sandbox.is_active:
        raise SystemExit(f"The sandbox cannot be measured: {sandbox.describe()}.")
    free, restricted = [], []
    for _ in range(RUNS):
        free.append(_cpu_seconds(None))
        restricted.append(_cpu_seconds(sandbox))
    return _section(free, restricted)


def _cpu_seconds(sandbox: Sandbox | None) -> float:
    """Return the CPU seconds of one run, user and system."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PROGRAM, folder]
        if sandbox is not None:
            command = sandbox.wrap(_policy(Path(folder)), command)
        environ = os.environ | {"TMPDIR": folder, "HOME": folder, "TF_CPP_MIN_LOG_LEVEL": "3"}
        before = os.times()
        subprocess.run(command, env=environ, check=True, capture_output=True)
        after = os.times()
    user, kernel = after.children_user - before.children_user, after.children_system - before.children_system
    return user + kernel


def _policy(folder: Path) -> Policy:
    return Policy(
        read=(*system.LIBRARIES, *system.NETWORK, *system.NAMES, *system.interpreter()),
        write=(str(folder),),
        shared=("/dev/shm",),
        device=system.devices(),
    )


def _section(free: Sequence[float], restricted: Sequence[float]) -> str:
    pairs = zip(free, restricted, strict=True)
    ratio = statistics.median(with_sandbox / without for without, with_sandbox in pairs)
    return "\n".join(
        (
            "## The sandbox",
            "",
            "CPU seconds of a program that imports TensorFlow, writes and reads 500 files, trains and",
            "exports.",
            "",
            "| | CPU |",
            "|---|---|",
            f"| free, median of {len(free)} | {statistics.median(free):.2f} s |",
            f"| under Landlock, by turns with it | {statistics.median(restricted):.2f} s |",
            f"| median ratio of the pairs (goal: at most {GOAL}) | {ratio:.3f} |",
        )
    )
