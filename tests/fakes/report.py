"""A finished run as its steps leave it in a bucket, small and made up, for tests of the report."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.dataset import DataOutcome, DatasetInfo, DataVerdict, SplitSettings, write_info
from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.gate import GateDecision
from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.metrics import Metrics, ReliabilityBin
from pipeline.artifacts.steps import DatasetResult, TrainResult
from pipeline.artifacts.training import Calibration, CrossValidation
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.npz import write_npz
from pipeline.storage import Storage
from tests.fakes.pictures import png
from tests.fakes.rows import manifest_of, manifest_row
from tests.fakes.training import training_record

WORKSPACE = "gs://graft"
CLASSES = ["ant", "bee"]
CLASSIFIER = Classifier.from_dict(
    {"name": "toys", "description": "Ants and bees.", "dataset": {"source": {"type": "sample"}}}
)
DATASET = DatasetResult(
    dataset="toys",
    version="d_1",
    uri=f"{WORKSPACE}/datasets/toys/d_1",
    classes={"ant": 15, "bee": 15},
    pictures=30,
    test_pictures=6,
    train_pictures=24,
    rejected={},
    decoded=30,
    warnings=[],
    expect={},
    new=True,
    pack_index="",
    pack_items=[],
    classifier=CLASSIFIER.to_dict(),
)
TRAINING = TrainResult(
    job="train_1",
    model_uri=f"{WORKSPACE}/jobs/train_1/model",
    classes=CLASSES,
    forwarded=24,
    cached=0,
    package={},
    weights_uri=f"{WORKSPACE}/weights/w",
    package_uri=f"{WORKSPACE}/packages/p.tar.gz",
    runtime_version="2.21",
)
METRICS = Metrics(
    accuracy=5 / 6,
    accuracy_ci95=(0.44, 0.97),
    loss=0.4,
    test_pictures=6,
    confusion={"ant": {"ant": 2, "bee": 1}, "bee": {"ant": 0, "bee": 3}},
    reliability=(ReliabilityBin(low=0.8, high=1.0, pictures=6, confidence=0.87, accuracy=5 / 6),),
)
EVALUATION = Evaluation(
    job="eval_1", classes=("ant", "bee"), candidate=METRICS, size_mb=21.04, batch_ms_per_picture=31.27
)
DECISION = GateDecision(
    accepted=True,
    reasons=(),
    metrics=METRICS,
    thresholds={"absolute.accuracy.min": 0.6},
    baseline=None,
    note="first version",
)
WIDTH = 6
CROSS_VALIDATION = CrossValidation(folds=5, pictures=24, accuracy=0.9, spread=0.05, log_loss=0.3, units=128)
CALIBRATION = Calibration(temperature=2.0, pictures=24, log_loss_before=0.5, log_loss_after=0.25)


class ReportWorld:
    """A bucket with 24 training and 6 test pictures, one of them answered wrongly, one label flipped.

    Args:
        folder: Where the bucket is.
        names: File names by picture id, instead of `<id>.png`.
        extra: Further manifest fields for every row.
        prefix: What the ids of the pictures begin with.
    """

    def __init__(
        self,
        folder: Path,
        *,
        names: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
        prefix: str = "p",
    ) -> None:
        self.storage, self.prefix = Storage({"graft": folder}), prefix
        self.names, self.extra = names or {}, extra or {}
        self.rows = [self._row(number) for number in range(30)]
        manifest_of(self.storage, "d_1").write(self.rows)
        self._write_info()
        self._write_training()
        self._write_predictions()

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.storage, WORKSPACE)

    def arguments(self, **changes: Any) -> dict[str, Any]:
        """What `write_report` is called with."""
        given = {
            "run_id": "manual__1",
            "classifier": CLASSIFIER,
            "dataset": DATASET,
            "training": TRAINING,
            "evaluation": EVALUATION,
            "decision": DECISION,
        }
        return {**given, **changes}

    def _row(self, number: int) -> ManifestRow:
        pixels = np.random.default_rng(number).integers(0, 255, (20, 30, 3), np.uint8)
        data = png(pixels)
        blob = hashlib.sha256(data).hexdigest()
        self.storage.write_bytes(f"{WORKSPACE}/blobs/{blob}", data)
        id = f"{self.prefix}{number:02d}"
        given: dict[str, Any] = {
            "id": id,
            "blob": blob,
            "label": CLASSES[number % 2],
            "position": number,
            "source_url": f"file:///pictures/{self.names.get(id, f'{id}.png')}",
            "retrieved_at": "2026-01-01",
            "status": "kept",
            "split": "train" if number < 24 else "test",
            "group": id,
        }
        return manifest_row(**{**given, **self.extra})

    def features_of(self, number: int) -> Any:
        """What the network would make of a picture; picture 4 is an ant that is a bee."""
        is_bee = number % 2 == 1 or number == 4
        noise = np.random.default_rng(number).uniform(0, 0.2, WIDTH)
        return (noise + np.eye(WIDTH)[1 if is_bee else 0]).astype(np.float32)

    def _write_info(self, classes: tuple[str, str] = ("ant", "bee")) -> None:
        info = DatasetInfo(
            dataset="toys",
            version="d_1",
            classes=classes,
            pictures=dict.fromkeys(classes, 15),
            train=dict.fromkeys(classes, 12),
            test=dict.fromkeys(classes, 3),
            found=36,
            rejected={"truncated": 2, "not_found": 1, "exact_duplicate": 3},
            source={"type": "sample"},
            split=SplitSettings(method="hash", test_fraction=0.2, seed=0),
            run_id="manual__1",
            created_at="2026-01-01T00:00:00Z",
            expect=DataVerdict(
                outcome=DataOutcome.WARN, reasons=("class_loss (warn): ant shrank from 40 to 15 pictures",)
            ),
        )
        write_info(info, self.workspace.dataset("toys").version("d_1"))

    def _write_training(self) -> None:
        uri = f"{WORKSPACE}/features/w/s/shard.npz"
        ids = np.array([row.id for row in self.rows[:24]], "S64")
        features = np.stack([self.features_of(number) for number in range(24)])
        self.storage.write_bytes(uri, write_npz({"ids": ids, "features": features}))
        history = {
            "loss": [0.7, 0.4],
            "accuracy": [0.5, 0.9],
            "val_loss": [0.6, 0.5],
            "val_accuracy": [0.7, 0.8],
        }
        record = training_record(
            features=(uri,), history=history, calibration=CALIBRATION, cross_validation=CROSS_VALIDATION
        )
        record.write(self.workspace.job("train_1"))

    def _write_predictions(self) -> None:
        lines = "".join(json.dumps(self._answer(number)) + "\n" for number in range(24, 30))
        uri = f"{self.workspace.job('eval_1').predictions}/prediction.results-00000-of-00001"
        self.storage.write_bytes(uri, lines.encode())

    def _answer(self, number: int) -> dict[str, Any]:
        says_bee = number % 2 == 1 or number == 26
        direction = self.features_of(number)
        scaled = np.round(direction / direction.max() * 255).astype(np.uint8)
        return {
            "key": f"{self.prefix}{number:02d}",
            "outputs": [0.1, 0.9] if says_bee else [0.8, 0.2],
            "label": CLASSES[says_bee],
            "score": 0.9 if says_bee else 0.8,
            "novelty": 0.97 if number == 26 else 0.5,
            "features": scaled.tolist(),
            "activation": np.random.default_rng(number).normal(size=(7, 7)).tolist(),
        }

    def relabel(self, old: str, new: str) -> None:
        """Give a class another name in the dataset version."""
        uri = self.workspace.dataset("toys").version("d_1").manifest
        text = self.storage.read_bytes(uri).decode()
        self.storage.write_bytes(uri, text.replace(json.dumps(old), json.dumps(new)).encode())
        self._write_info(("ant", new))
