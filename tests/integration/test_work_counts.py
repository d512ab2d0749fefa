"""Work is counted where it happens: a run does what is new, and nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.folders import FeatureFolder
from pipeline.backbones.table import find_backbone
from pipeline.config import Classifier
from pipeline.deploy.run_summary import count_work
from pipeline.npz import write_npz
from pipeline.preprocess.pack import pack_shard, plan_pack
from pipeline.storage import Storage
from pipeline.trainer.features import FeatureCache, collect_features
from tests.fakes.pictures import (
    WORKSPACE,
    classifier_of,
    fetch_and_clean,
    folder_classifier,
    folder_of,
    noise,
    serving,
    storage_in,
)
from tests.fakes.rows import workspace_of

BACKBONE = find_backbone("efficientnet_lite0")


class Runs:
    """What the DAG's first four tasks do, one run after another."""

    def __init__(self, classifier: Classifier, storage: Storage) -> None:
        self.classifier = classifier
        self.storage = storage
        self.pictures_seen = 0

    def run(self) -> tuple[dict[str, int], dict[str, Any]]:
        fetched, dataset = fetch_and_clean(self.classifier, self.storage)
        plan = plan_pack(workspace_of(self.storage), dataset.dataset, dataset.version, BACKBONE.spec)
        packed = [pack_shard(workspace_of(self.storage), plan.index_uri, item) for item in plan.items]
        cache = FeatureCache(FeatureFolder(self.storage, f"{WORKSPACE}/features"), BACKBONE.feature_width)
        found = collect_features(plan.index.shards, self.storage, cache=cache, network=self.forward)
        work = found.work
        counted = count_work([fetched], dataset, packed, forwarded=work.forwarded, cached=work.cached)
        return counted.to_dict(), dataset.to_dict()

    def forward(self, pixels: Any) -> Any:
        self.pictures_seen += len(pixels)
        return pixels.reshape(len(pixels), -1)[:, : BACKBONE.feature_width].astype(np.float32)

    def versions(self) -> set[str]:
        prefix = f"{WORKSPACE}/datasets/toys/"
        found = self.storage.list_uris(prefix)
        return {uri.removeprefix(prefix).split("/")[0] for uri in found if uri.endswith("manifest.jsonl")}


def test_folder_runs_do_only_what_is_new(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pictures", {"a": 12, "b": 12})
    runs = Runs(folder_classifier(root), storage_in(tmp_path))
    work, first = runs.run()
    train = first["pictures"] - first["test_pictures"]
    assert work == {"downloaded": 24, "decoded": 24, "forwarded": train, "cached": 0}
    work, second = runs.run()
    assert work == {"downloaded": 0, "decoded": 0, "forwarded": 0, "cached": train}
    assert second["version"] == first["version"]
    assert runs.versions() == {first["version"]}
    folder_of(root, {"a": 5, "b": 5}, first=12)
    work, third = runs.run()
    growth = third["pictures"] - third["test_pictures"] - train
    assert 0 < growth <= 10
    assert work == {"downloaded": 10, "decoded": 10, "forwarded": growth, "cached": train}


def test_npz_over_http_is_transferred_once_as_the_server_counts(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    features = np.stack([noise(number) for number in range(24)])
    labels = np.arange(24) % 2
    (site / "toys.npz").write_bytes(write_npz({"features": features, "labels": labels}))
    with serving(site) as server:
        source = {"type": "npz", "uri": server.url("toys.npz"), "classes": ["a", "b"]}
        runs = Runs(classifier_of(source), storage_in(tmp_path))
        work, first = runs.run()
        train = first["pictures"] - first["test_pictures"]
        assert work == {"downloaded": 1, "decoded": 24, "forwarded": train, "cached": 0}
        assert server.requests["bodies"] == 1
        work, second = runs.run()
        assert work == {"downloaded": 0, "decoded": 0, "forwarded": 0, "cached": train}
        assert server.requests["bodies"] == 1
        assert second["version"] == first["version"]
        assert runs.versions() == {first["version"]}
        more = np.concatenate([features, np.stack([noise(number) for number in range(100, 110)])])
        archive = write_npz({"features": more, "labels": np.arange(34) % 2})
        (site / "toys.npz").write_bytes(archive)
        work, third = runs.run()
        growth = third["pictures"] - third["test_pictures"] - train
        assert 0 < growth <= 10
        assert work == {"downloaded": 1, "decoded": 10, "forwarded": growth, "cached": train}
        assert server.requests["bodies"] == 2
        assert runs.pictures_seen == train + growth
