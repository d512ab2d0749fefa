"""Real pictures: more of them are decided in pairs; flipped labels are refused by the champion alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import DatasetVersionFolder, FeatureFolder
from pipeline.artifacts.gate import GateDecision, Verdict
from pipeline.artifacts.training import HeadParameters
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.networks.folded import build_network
from pipeline.backbones.table import find_backbone
from pipeline.backbones.weights import read_weights
from pipeline.config import Classifier, GateConfig
from pipeline.evaluate.champion import Champion
from pipeline.evaluate.evaluation import evaluate_model
from pipeline.evaluate.gate import decide_gate
from pipeline.evaluate.predictions import PredictionJob, read_test_rows
from pipeline.pixels.host import decode_resized
from pipeline.preprocess.pack import pack_shard, plan_pack
from pipeline.storage import Storage
from pipeline.submission.staged_weights import stage_weights
from pipeline.tflite.head import Head
from pipeline.trainer.features import FeatureCache, collect_features
from pipeline.trainer.head import train_head
from tests.fakes.pictures import WORKSPACE, fetch_and_clean, folder_classifier, storage_in
from tests.fakes.rows import dataset_folder, workspace_of

pytestmark = pytest.mark.shared_data
BACKBONE = find_backbone("efficientnet_lite0")
CLASSES = ("kangaroo", "raccoon")
GATE = {
    "min_accuracy": 0.1,  # any model passes this one
    "change": {"accuracy": {"max_drop": 0.03}},
    "non_inferiority": {"margin": 0.05},
}
BATCH = 32


class Runs:
    """What a run's tasks do from fetch to gate; an accepted model becomes the champion of the next run."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self.folder = folder
        self.storage = storage
        staged = stage_weights(Workspace(storage, WORKSPACE), BACKBONE, "imagenet")
        self.network = build_network(
            BACKBONE.name, read_weights(storage.local_path(staged.uri), BACKBONE.name)
        )
        self.seen: dict[str, Any] = {}
        self.champion: tuple[str, Head, str] | None = None

    @property
    def classifier(self) -> Classifier:
        """The flipped labels are let through to the gate."""
        value = folder_classifier(self.folder).to_dict()
        value["dataset"]["expect"] = {"label_churn": "warn"}
        return Classifier.from_dict(value)

    def run(self, name: str) -> tuple[Evaluation, GateDecision]:
        _, dataset = fetch_and_clean(self.classifier, self.storage)
        uri = dataset_folder(self.storage, dataset.dataset).version(dataset.version).uri
        head = self.train(dataset.dataset, dataset.version)
        champion = None
        if self.champion is not None:
            version, other, trained_on = self.champion
            job = self.predict(other, f"{version}_on_{name}", uri)
            champion = Champion(
                version=version,
                job=job.job,
                output_path=job.output_path,
                classes=CLASSES,
                dataset_uri=trained_on,
            )
        evaluation = evaluate_model(
            DatasetVersionFolder(self.storage, uri),
            classes=CLASSES,
            candidate_job=self.predict(head, name, uri),
            champion=champion,
        )
        decision = decide_gate(evaluation, GateConfig.model_validate(GATE))
        if decision.accepted:
            self.champion = (name, head, uri)
        return evaluation, decision

    def train(self, dataset: str, version: str) -> Head:
        plan = plan_pack(workspace_of(self.storage), dataset, version, BACKBONE.spec)
        for item in plan.items:
            pack_shard(workspace_of(self.storage), plan.index_uri, item)
        cache = FeatureCache(FeatureFolder(self.storage, f"{WORKSPACE}/features"), BACKBONE.feature_width)
        found = collect_features(
            plan.index.shards,
            self.storage,
            cache=cache,
            network=lambda pixels: self.network(pixels).numpy(),
        )
        return train_head(found.features, found.labels, len(CLASSES), HeadParameters())[0]

    def predict(self, head: Head, job: str, dataset_uri: str) -> PredictionJob:
        """Leave what a batch prediction job would leave."""
        rows = read_test_rows(DatasetVersionFolder(self.storage, dataset_uri))
        self.look_at({key: row.blob for key, row in rows.items() if key not in self.seen})
        outputs = head.predict(np.stack([self.seen[key] for key in rows]))
        path = f"{WORKSPACE}/jobs/{job}/predictions"
        lines = [
            json.dumps({"key": key, "outputs": [float(value) for value in row]})
            for key, row in zip(rows, outputs, strict=True)
        ]
        self.storage.write_bytes(f"{path}/prediction.results-00000-of-00001", "\n".join(lines).encode())
        return PredictionJob(job=job, output_path=path, predictions=len(rows))

    def look_at(self, blobs: dict[str, str]) -> None:
        keys = list(blobs)
        for start in range(0, len(keys), BATCH):
            part = keys[start : start + BATCH]
            data = [self.storage.read_bytes(f"{WORKSPACE}/blobs/{blobs[key]}") for key in part]
            pixels = np.stack([decode_resized(each, BACKBONE.spec) for each in data])
            self.seen.update(zip(part, self.network(pixels).numpy(), strict=True))


def copy_share(source: Path, target: Path, share: float) -> None:
    """Copy the first pictures of each class."""
    for label in CLASSES:
        (target / label).mkdir(parents=True, exist_ok=True)
        files = sorted((source / label).glob("*.jpg"))
        for file in files[: round(share * len(files))]:
            shutil.copy2(file, target / label / file.name)


def flip_labels(folder: Path, share: float) -> int:
    """Move a share of all pictures into the folder of the other class; return how many."""
    files = sorted(folder.glob("*/*.jpg"))
    chosen = np.random.default_rng(0).choice(len(files), round(share * len(files)), replace=False)
    for index in chosen:
        file, label = files[index], files[index].parent.name
        other = CLASSES[1 - CLASSES.index(label)]
        file.rename(folder / other / f"from-{label}-{file.name}")
    return len(chosen)


def failed(decision: GateDecision) -> list[str]:
    return [reason.partition(":")[0] for reason in decision.reasons]


def test_more_pictures_are_decided_in_pairs_and_flipped_labels_are_refused_by_the_champion_alone(
    shared_data: Path, tmp_path: Path
) -> None:
    runs = Runs(tmp_path / "pictures", storage_in(tmp_path))
    copy_share(shared_data / "kangaroo_raccoon", runs.folder, 0.6)
    first, decision = runs.run("v_1")
    assert (first.champion, decision.accepted) == (None, True)

    copy_share(shared_data / "kangaroo_raccoon", runs.folder, 1.0)
    second, decision = runs.run("v_2")
    assert second.champion_version == "v_1"
    assert second.comparison is not None
    assert second.comparison.pictures == second.candidate.test_pictures > first.candidate.test_pictures
    assert second.champion_saw == 0
    judged = [rule for rule in decision.rules if rule.key != "ratchet"]  # nothing better served
    assert {rule.verdict for rule in judged} == {Verdict.PASSED}
    assert second.candidate.accuracy >= 0.95

    assert flip_labels(runs.folder, 0.3) == 107
    third, decision = runs.run("v_3")
    assert third.champion_version == "v_2"
    assert third.candidate.test_pictures == second.candidate.test_pictures
    assert failed(decision) == ["change.accuracy.max_drop", "non_inferiority"]
    assert not decision.accepted
    assert third.champion is not None
    assert third.candidate.accuracy < third.champion.accuracy - 0.03
    assert runs.champion is not None
    assert runs.champion[0] == "v_2"
