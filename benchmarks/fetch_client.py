"""What Graft does with a list of addresses: `python -m benchmarks.fetch_client LIST OUT`.

Downloads every picture, decodes it, resizes it to 256 x 256 and writes NPZ shards of 256, as `pack` does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.config import Classifier
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.index import FetchedRow, read_indexes
from pipeline.npz import write_npz
from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage

CONCURRENCY = 16
SHARD = 256


def main(list_file: str, out: str) -> None:
    """Fetch and pack."""
    fetch = {"requests_per_second": 1_000_000, "concurrency": CONCURRENCY}
    dataset = {"source": {"type": "url_list", "uri": list_file}, "fetch": fetch}
    storage = Storage({"graft": Path(out)})
    classifier = Classifier.from_dict({"name": "bench", "dataset": dataset})
    result = fetch_pictures(classifier, storage=storage, workspace="gs://graft")
    rows = [row for row in read_indexes([result["index"]], storage).rows if row.reason is None]
    for start in range(0, len(rows), SHARD):
        part = rows[start : start + SHARD]
        features = np.stack(list(pixels(part, storage)))
        labels = np.zeros(len(part), np.int64)
        storage.write_bytes(
            f"gs://graft/shard-{start}.npz", write_npz({"features": features, "labels": labels})
        )
    print(result["found"])


def pixels(rows: list[FetchedRow], storage: Storage) -> Iterator[np.ndarray]:
    """Yield the resized pictures."""
    spec = PixelSpec(height=256, width=256, offset=0.0, divisor=255.0)
    for row in rows:
        yield resize_picture(decode_picture(storage.read_bytes(f"gs://graft/blobs/{row.blob}")), spec)


if __name__ == "__main__":
    main(*sys.argv[1:])
