"""Buckets as finished runs leave them, made up: small for the pages' rules, large for their cost."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.artifacts.run_summary import EvaluationSummary
from pipeline.artifacts.workspace import Workspace
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.schedule import Run, Scheduled
from pipeline.storage import Storage
from tests.fakes.model_record import run_summary

WORKSPACE = "gs://graft"
LABELS = ("ant", "bee", "cat")
DATASET_VERSION = "d_000000000001"
START = datetime(2026, 1, 1, tzinfo=UTC)


class CountingStorage(Storage):
    """Counts what is read and listed."""

    def __init__(self, buckets: Mapping[str, Path]) -> None:
        super().__init__(buckets)
        self.counts: Counter[str] = Counter()

    def read_bytes(self, uri: str) -> bytes:
        self.counts["read"] += 1
        return super().read_bytes(uri)

    def local_path(self, uri: str) -> Path:
        self.counts["read"] += 1
        return super().local_path(uri)

    def list_uris(self, prefix: str) -> list[str]:
        self.counts["list"] += 1
        return super().list_uris(prefix)


class Fleet:
    """Many classifiers, each with many deployed versions and one dataset version of many pictures.

    Args:
        folder: Where the bucket is.
        classifiers: How many there are.
        versions: Of each.
        pictures: Of the first classifier; the others have a hundredth of them.
    """

    def __init__(self, folder: Path, *, classifiers: int, versions: int, pictures: int) -> None:
        self.folder = folder
        self.storage = CountingStorage({"graft": folder})
        self.workspace = Workspace(self.storage, WORKSPACE)
        self.cache = ArtifactCache(self.workspace)
        self.names = [f"classifier_{number:02d}" for number in range(classifiers)]
        self.num_versions = versions
        for number, name in enumerate(self.names):
            self._write_dataset(name, pictures if number == 0 else max(len(LABELS), pictures // 100))
            for version in range(versions):
                self._write_version(name, version)

    def version(self, number: int) -> str:
        return f"v_{number:012x}"

    def run(self, number: int) -> Run:
        began = START + timedelta(days=number)
        return Run(run_id=f"manual__{number:06d}", state="success", started=began, ended=began)

    @property
    def scheduled(self) -> list[Scheduled]:
        last = self.run(self.num_versions - 1)
        return [Scheduled(name=name, description=f"Tells {name}.", last_run=last) for name in self.names]

    @property
    def runs(self) -> list[Run]:
        return [self.run(number) for number in reversed(range(self.num_versions))]

    @property
    def serving(self) -> dict[str, str]:
        return dict.fromkeys(self.names, self.version(self.num_versions - 1))

    def resources(self, name: str) -> list[dict[str, Any]]:
        """The versions as the engine lists them."""
        last = self.num_versions - 1
        return [
            {
                "name": f"projects/local/models/{name}/versions/{self.version(number)}",
                "state": "READY",
                "createTime": (START + timedelta(days=number)).isoformat(),
                **({"isDefault": True} if number == last else {}),
            }
            for number in range(self.num_versions)
        ]

    def _write(self, key: str, data: bytes) -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def _write_json(self, key: str, value: Any) -> None:
        self._write(key, json.dumps(value).encode())

    def _write_dataset(self, name: str, pictures: int) -> None:
        rows = [self._row(name, number) for number in range(pictures)]
        folder = f"datasets/{name}"
        lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        self._write(f"{folder}/{DATASET_VERSION}/manifest.jsonl", lines)
        self._write_json(f"{folder}/latest.json", {"version": DATASET_VERSION})
        kept = [row for row in rows if row["split"]]
        counts = {
            side: {
                label: sum(row["label"] == label and row["split"] in splits for row in kept)
                for label in LABELS
            }
            for side, splits in (("all", ("train", "test")), ("train", ("train",)), ("test", ("test",)))
        }
        info = {
            "dataset": name,
            "version": DATASET_VERSION,
            "classes": list(LABELS),
            "pictures": counts["all"],
            "train": counts["train"],
            "test": counts["test"],
            "rejected": {"truncated": len(rows) - len(kept)},
            "source": {"type": "url_list"},
            "split": {"method": "hash", "test_fraction": 0.2, "seed": 0},
            "run_id": self.run(0).run_id,
            "created_at": START.isoformat(),
            "warnings": [],
            "found": len(rows),
            "previous": None,
        }
        self._write_json(f"{folder}/{DATASET_VERSION}/dataset.json", info)

    def _row(self, name: str, number: int) -> dict[str, Any]:
        digest = hashlib.sha256(f"{name}/{number}".encode()).hexdigest()
        is_kept = number % 10 != 9
        return {
            "id": digest,
            "blob": digest[::-1],
            "label": LABELS[number % len(LABELS)],
            "position": number,
            "source_url": f"https://example.com/{name}/{number}.jpg",
            "page_url": f"https://example.com/{name}/{number}",
            "creator": "somebody",
            "license": "CC0-1.0",
            "license_url": "https://creativecommons.org/publicdomain/zero/1.0/",
            "retrieved_at": START.isoformat(),
            "width": 640,
            "height": 480,
            "format": "JPEG",
            "phash": digest,
            "colour": digest[:24],
            "sketch": "Q" * 768,  # as large as the real one
            "group": digest,
            "split": ("test" if number % 5 == 0 else "train") if is_kept else None,
            "status": "kept" if is_kept else "quarantined",
            "reason": None if is_kept else "truncated",
            "decision": None,
        }

    def _write_version(self, name: str, number: int) -> None:
        run, accuracy = self.run(number), 0.8 + 0.001 * number
        event = {
            "event": "promoted",
            "version": self.version(number),
            "previous": self.version(number - 1) if number else None,
            "run_id": run.run_id,
            "dataset_version": DATASET_VERSION,
            "accuracy": accuracy,
            "decided_by": "gate",
            "at": (START + timedelta(days=number)).isoformat(),
        }
        at = START + timedelta(days=number)
        key = f"classifiers/{name}/history/{at:%Y%m%dT%H%M%S%f}-promoted-{self.version(number)}.json"
        self._write_json(key, event)
        evaluation = EvaluationSummary(
            accuracy=accuracy, accuracy_ci95=(accuracy, accuracy), loss=0.5, test_pictures=100, job="j"
        )
        summary = run_summary(
            classifier=name, run_id=run.run_id, version=self.version(number), evaluation=evaluation
        )
        uri = self.workspace.run(name, run.run_id).summary
        self._write_json(uri.removeprefix(f"{WORKSPACE}/"), summary.to_dict())
