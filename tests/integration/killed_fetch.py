"""Fetch a list of addresses in a process that somebody will kill."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.datasets.fetch import fetch_pictures
from pipeline.storage import Storage


def main(list_file: str, bucket: str) -> None:
    classifier = Classifier.from_dict(
        {
            "name": "killed",
            "dataset": {
                "source": {"type": "url_list", "uri": list_file},
                "fetch": {"requests_per_second": 2000, "concurrency": 8},
            },
        }
    )
    fetch_pictures(Workspace(Storage({"graft": Path(bucket)}), "gs://graft"), classifier)


if __name__ == "__main__":
    main(*sys.argv[1:])
