"""Fine-tuning of a larger backbone on the real stack; those of the default one: test_model_kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.training import TrainingRecord
from pipeline.artifacts.workspace import Workspace
from pipeline.config import ModelConfig
from pipeline.submission.backbone import stage_backbone
from tests.e2e.conftest import ClassifierDag, Stack
from tests.fakes.extras import installed_extras

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
SOURCE = {"type": "sample", "classes": ["brick", "grass"]}


def read_record(stack: Stack, job_id: str) -> TrainingRecord:
    return TrainingRecord.read(JobDirectory(stack.storage, f"gs://graft/jobs/{job_id}"))


def test_a_block_of_a_larger_backbone_reaches_a_served_version(stack: Stack, tmp_path: Path) -> None:
    name, backbone = "larger", "efficientnet_lite2"
    model = {"backbone": backbone, "finetune": {"blocks": 1, "epochs": 2}}
    with installed_extras(tmp_path / "extras", backbone):
        stage_backbone(Workspace(stack.storage, "gs://graft"), ModelConfig.model_validate(model))
    ClassifierDag(stack, {"name": name, "dataset": {"source": SOURCE}, "model": model})
    result = stack.graft_json("run", name)  # its smoke test compares online answers with those in batch
    assert (result["state"], result["evaluation"]["accuracy"] > 0.9) == ("success", True), result
    lineage = stack.graft_json("lineage", name)
    record = read_record(stack, lineage["training"]["job"])
    assert record.finetune is not None
    assert lineage["weights"]["uri"] == record.finetune.weights
    for form in ("tflite", "keras"):
        made = stack.graft_json("export", name, "--format", form, "--out", str(tmp_path / f"{form}.zip"))
        assert Path(made["file"]).stat().st_size > 10_000_000
