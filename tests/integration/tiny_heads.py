"""Models of ours with a network that takes no time and a head that knows its answer; and their clients."""

from __future__ import annotations

import http.client
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from pipeline.artifacts.model_files import HEAD, LABELS, TFLITE_NETWORK
from pipeline.npz import write_npz
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.head import Head
from pipeline.tflite.manifest import Parity, TFLiteManifest, digest_files

NOTHING: Mapping[str, str] = MappingProxyType({})
CONVERT = """
import sys, tensorflow as tf

def network(pixels):
    maps = tf.nn.avg_pool2d(tf.cast(pixels, tf.float32) / 255, 4, 4, "VALID")
    return tf.reduce_mean(maps, (1, 2)), maps

traced = tf.function(network, input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.uint8)])
converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], tf.Module())
open(sys.argv[1], "wb").write(converter.convert())
"""


def convert_network(path: Path) -> bytes:
    """Convert a network without weights whose features are the mean colours."""
    subprocess.run([sys.executable, "-c", CONVERT, str(path)], check=True, capture_output=True, timeout=300)
    return path.read_bytes()


def write_model(directory: Path, network: bytes, number: int) -> None:
    """Write a model whose TFLite export answers class `number` of 200 whatever it sees."""
    (directory / "graft").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"not read")
    (directory / TFLITE_NETWORK).write_bytes(network)
    (directory / LABELS).write_text(json.dumps([str(label) for label in range(200)]))
    bias = np.where(np.arange(200) == number, 50, 0).astype(np.float32)
    head = Head(
        hidden_kernel=np.zeros((3, 4), np.float32),
        hidden_bias=np.zeros(4, np.float32),
        output_kernel=np.zeros((4, 200), np.float32),
        output_bias=bias,
    )
    (directory / HEAD).write_bytes(write_npz(head.arrays()))
    TFLiteManifest(
        files=digest_files(directory),
        spec=PixelSpec(height=8, width=8, offset=0, divisor=255),
        reject_below=0,
        parity=Parity(pictures=1, largest_difference=0),
        made_by={},
    ).write(directory)


class Clients:
    """Clients that ask without a pause and note when they asked, when they were answered, and by whom.

    Args:
        ports: Of the engines; each has as many of the clients.
        body: What they send.
        headers: Likewise.
        count: How many there are.
    """

    def __init__(
        self, ports: Sequence[int], body: bytes, *, headers: Mapping[str, str] = NOTHING, count: int = 16
    ) -> None:
        self.answers: list[tuple[float, float, str]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(port, body, dict(headers)))
            for port in itertools.islice(itertools.cycle(ports), count)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, body: bytes, headers: dict[str, str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while not self._stop.is_set():
            asked = time.monotonic()
            try:
                connection.request("POST", "/v1/projects/local/models/m:predict", body, headers)
                text = connection.getresponse().read()
                value: dict[str, Any] = json.loads(text)
                label = value["predictions"][0]["label"]
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            except KeyError:
                self.failures.append(text.decode())
                connection.close()
                continue
            self.answers.append((asked, time.monotonic(), label))
        connection.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
