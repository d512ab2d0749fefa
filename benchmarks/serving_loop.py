"""No server: decode and forward in a loop. `python -m benchmarks.serving_loop MODEL PICTURES SECONDS`.

All cores are used in two ways: one network with a thread for each core, its pictures decoded by as many
threads; and one network for each core, whose thread decodes too. It prints one line of JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.tflite.manifest import read_manifest
from pipeline.tflite.network import TFLiteModel

CORES = len(os.sched_getaffinity(0))
BATCHES = (1, 8, 32)


def rate_of(run: Callable[[int], int], seconds: float, *, threads: int) -> dict[str, float]:
    """Return pictures and CPU seconds per second and picture of a function that handles some pictures."""
    counts = [0] * threads
    cpu, started = time.process_time(), time.perf_counter()

    def work(number: int) -> None:
        while time.perf_counter() < started + seconds:
            counts[number] += run(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    count = sum(counts)
    wall = time.perf_counter() - started
    return {"rate": count / wall, "cpu_ms": (time.process_time() - cpu) / count * 1000}


def main(directory: Path, folder: Path, seconds: float) -> None:
    """Measure every way and batch size, and print the best of the loop and of the bare forward pass."""
    files = itertools.cycle([path.read_bytes() for path in sorted(folder.rglob("*.jpg"))])
    lock = threading.Lock()
    manifest = read_manifest(directory)
    wide = TFLiteModel(directory, manifest, threads=CORES)
    narrow = [TFLiteModel(directory, manifest) for _ in range(CORES)]
    pool = ThreadPoolExecutor(CORES)

    def take(count: int) -> list[bytes]:
        with lock:
            return list(itertools.islice(files, count))

    def pixels_of(data: bytes) -> np.ndarray:
        return resize_picture(decode_picture(data), manifest.spec)

    rates: dict[str, dict[str, dict[str, float]]] = {"loop": {}, "forward": {}}
    for batch in BATCHES:
        fixed = np.stack([pixels_of(data) for data in take(batch)])
        for model in (wide, *narrow):
            model.predict(fixed)

        def one_network(_: int, batch: int = batch) -> int:
            wide.predict(np.stack(list(pool.map(pixels_of, take(batch)))))
            return batch

        def network_a_core(number: int, batch: int = batch) -> int:
            narrow[number].predict(np.stack([pixels_of(data) for data in take(batch)]))
            return batch

        def forward_wide(_: int, fixed: np.ndarray = fixed) -> int:
            wide.predict(fixed)
            return len(fixed)

        def forward_narrow(number: int, fixed: np.ndarray = fixed) -> int:
            narrow[number].predict(fixed)
            return len(fixed)

        rates["loop"][f"batch {batch}, one network"] = rate_of(one_network, seconds, threads=1)
        rates["loop"][f"batch {batch}, a network a core"] = rate_of(network_a_core, seconds, threads=CORES)
        rates["forward"][f"batch {batch}, one network"] = rate_of(forward_wide, seconds, threads=1)
        rates["forward"][f"batch {batch}, a network a core"] = rate_of(forward_narrow, seconds, threads=CORES)
    best = {
        kind: max(({"name": name, **each} for name, each in ways.items()), key=lambda way: way["rate"])
        for kind, ways in rates.items()
    }
    print(json.dumps(best))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
