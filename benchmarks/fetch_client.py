"""What Graft does with a list of addresses: `python -m benchmarks.fetch_client LIST OUT`.

Downloads every picture, decodes it, resizes it to 256 x 256 and writes NPZ shards of 256, as `pack` does.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Classifier
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.index import FetchedRow, iterate_rows
from pipeline.npz import write_npz
from pipeline.pixels.host import decode_resized
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage

CONCURRENCY = 16
SHARD = 256
SIDE = 256
SPEC = PixelSpec(height=SIDE, width=SIDE, offset=0.0, divisor=255.0)


def main(list_file: str, out: str) -> None:
    """Fetch and pack."""
    fetch = {"requests_per_second": 1_000_000, "concurrency": CONCURRENCY}
    dataset = {"source": {"type": "url_list", "uri": list_file}, "fetch": fetch}
    storage = Storage({"graft": Path(out)})
    classifier = Classifier.from_dict({"name": "bench", "dataset": dataset})
    result = fetch_pictures(classifier, storage=storage, workspace="gs://graft")
    rows = (row for row in iterate_rows(result["index"], storage) if row.reason is None)
    start, pixels = 0, np.empty((SHARD, SIDE, SIDE, 3), np.uint8)
    while part := list(islice(rows, SHARD)):
        pack(part, f"gs://graft/shard-{start}.npz", storage, pixels[: len(part)])
        start += len(part)
    print(result["found"])


def pack(rows: list[FetchedRow], uri: str, storage: Storage, features: NDArray[np.uint8]) -> None:
    """Write one shard, as one `pack` task does."""
    for number, row in enumerate(rows):
        features[number] = decode_resized(storage.read_bytes(f"gs://graft/blobs/{row.blob}"), SPEC)
    storage.write_bytes(uri, write_npz({"features": features, "labels": np.zeros(len(rows), np.int64)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
