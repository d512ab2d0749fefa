"""What Graft does with a list of addresses: `python -m benchmarks.fetch_client LIST OUT`.

Downloads every picture, decodes it, resizes it to 256 x 256 and writes NPZ shards of 256, as `pack` does.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import count, islice
from pathlib import Path

import numpy as np

from pipeline.artifacts.fetch_index import FetchedRow, FetchIndex
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.datasets.fetch import fetch_pictures
from pipeline.npz import save_npz
from pipeline.pixels.spec import PixelSpec
from pipeline.preprocess.decoding import decode_blobs
from pipeline.storage import Storage

CONCURRENCY = 16
SHARD = 256
SIDE = 256
SPEC = PixelSpec(height=SIDE, width=SIDE, offset=0.0, divisor=255.0)


def main(list_file: str, out: str) -> None:
    """Fetch and pack."""
    fetch = {"requests_per_second": 1_000_000, "concurrency": CONCURRENCY}
    dataset = {"source": {"type": "url_list", "uri": list_file}, "fetch": fetch}
    workspace = Workspace(Storage({"graft": Path(out)}), "gs://graft")
    classifier = Classifier.from_dict({"name": "bench", "dataset": dataset})
    result = fetch_pictures(workspace, classifier)
    rows = (row for row in FetchIndex(workspace.storage, [str(result.index)]).rows() if row.reason is None)
    for number in count():
        if not (part := list(islice(rows, SHARD))):
            break
        pack(part, f"gs://graft/shard-{number}.npz", workspace)
    print(result.found)


def pack(rows: list[FetchedRow], uri: str, workspace: Workspace) -> None:
    """Write one shard, as one `pack` task does."""
    features = decode_blobs(workspace, [row.blob for row in rows], SPEC)
    arrays = {"features": features, "labels": np.zeros(len(rows), np.int64)}
    workspace.storage.write_large(uri, partial(save_npz, arrays=arrays), if_absent=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
