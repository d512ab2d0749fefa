"""Fetch a list of addresses in a process of its own, and print the result with the peak of its memory."""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy  # noqa: F401
import PIL.Image  # noqa: F401

from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.fetcher import FetchPolicy
from pipeline.storage import Storage


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(list_file: str, bucket: str) -> None:
    idle = peak_bytes()
    fetch = {
        "requests_per_second": 500,
        "deadline_seconds": 4,
        "min_bytes_per_second": 1000,
        "concurrency": 8,
    }
    classifier = Classifier.from_dict(
        {"name": "hostile", "dataset": {"source": {"type": "url_list", "uri": list_file}, "fetch": fetch}}
    )
    policy = replace(
        FetchPolicy.from_environment(classifier.dataset.fetch),
        connect_seconds=2.0,
        read_seconds=2.0,
        header_seconds=1.5,
        grace_seconds=0.5,
        retry_after_cap=2.0,
    )
    result = fetch_pictures(
        Workspace(Storage({"graft": Path(bucket)}), "gs://graft"), classifier, policy=policy
    )
    sys.stdout.write(json.dumps({**result.to_dict(), "memory": peak_bytes() - idle}))


if __name__ == "__main__":
    main(*sys.argv[1:])
