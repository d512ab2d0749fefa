"""LitServe with batching, on the runtime our engine uses: `python -m benchmarks.rivals.lit MODEL PORT`.

LitServe is in an environment of its own, which the benchmark makes.
"""

import base64
import os
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.tflite.manifest import read_manifest
from pipeline.tflite.network import TFLiteModel

MAX_BATCH = 8
WAIT_SECONDS = 0.005


class Api(litserve.LitAPI):
    """Decodes in the server's process and predicts in batches in a worker."""

    def setup(self, device: str) -> None:
        """Load the model."""
        directory = Path(os.environ["BENCH_MODEL"])
        manifest = read_manifest(directory)
        self.spec = manifest.spec
        self.model = TFLiteModel(directory, manifest, threads=len(os.sched_getaffinity(0)))

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Decode the picture."""
        return resize_picture(decode_picture(base64.b64decode(request["inputs"])), self.spec)

    def batch(self, inputs: list[Any]) -> Any:
        """Make one array."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """Run the network."""
        return self.model.predict(x)

    def unbatch(self, output: Any) -> list[Any]:
        """Part the answers."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Make JSON of an answer."""
        return {"outputs": output.tolist()}


if __name__ == "__main__":
    os.environ["BENCH_MODEL"] = sys.argv[1]
    server = litserve.LitServer(
        Api(max_batch_size=MAX_BATCH, batch_timeout=WAIT_SECONDS), accelerator="cpu", workers_per_device=1
    )
    server.run(host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False)
