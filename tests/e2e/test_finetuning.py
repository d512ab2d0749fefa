"""Fine-tuning on the real stack: a job that is killed, and the larger backbones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.training import TrainingRecord
from pipeline.artifacts.workspace import Workspace
from pipeline.config import ModelConfig
from pipeline.submission.backbone import stage_backbone
from tests.e2e.conftest import ClassifierDag, Stack, wait_until
from tests.fakes.extras import installed_extras

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
SOURCE = {"type": "sample", "classes": ["brick", "grass"]}
PROCESS = "pipeline.trainer.finetune_process"


def read_record(stack: Stack, job_id: str) -> TrainingRecord:
    return TrainingRecord.read(JobDirectory(stack.storage, f"gs://graft/jobs/{job_id}"))


def training_jobs(stack: Stack, name: str) -> list[dict[str, Any]]:
    """The training jobs of a classifier, the first one first."""
    wanted = {"classifier": name, "step": "train"}
    jobs = [
        job for job in stack.engine_get("jobs")["jobs"] if wanted.items() <= job.get("labels", {}).items()
    ]
    return sorted(jobs, key=lambda job: job["createTime"])


def test_a_killed_job_is_followed_by_one_that_goes_on_after_its_last_epoch(stack: Stack) -> None:
    name = "killed"
    finetune = {"blocks": 1, "on": "pictures", "epochs": 6}
    ClassifierDag(stack, {"name": name, "dataset": {"source": SOURCE}, "model": {"finetune": finetune}})
    with stack.start_graft("run", name, "--json") as run:
        try:
            [job] = wait_until(lambda: training_jobs(stack, name), seconds=240, what="training job", pause=2)
            log = stack.home / "engine" / "jobs" / job["jobId"] / "log.txt"

            def has_two_epochs() -> bool:
                return log.exists() and "epoch 2 of 6" in log.read_text()

            wait_until(has_two_epochs, seconds=400, what="second epoch")
            killed = [each for each in stack.processes() if PROCESS in each.cmdline()]
            family = {each for process in killed for each in (process, *trainer_of(process))}
            for process in family:
                process.kill()
            assert run.wait(timeout=900) == 0
        finally:
            run.kill()
    first, second = training_jobs(stack, name)
    assert (first["state"], second["state"]) == ("FAILED", "SUCCEEDED")
    record = read_record(stack, second["jobId"]).finetune
    assert record is not None
    assert record.resumed_after >= 2
    log = stack.home / "engine" / "jobs" / second["jobId"] / "log.txt"
    assert re.search(r"Going on after epoch [2-6] of 6, which an earlier job had ended", log.read_text())
    version = stack.graft_json("lineage", name)["version"]
    again = stack.graft_json("reproduce", name, version)  # from the first epoch to the last
    assert again["reproduced"] == again["recorded"]


def trainer_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes of the job that started the one that fine-tunes."""
    return [parent for parent in process.parents() if "pipeline.trainer.task" in " ".join(parent.cmdline())]


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
    assert record.finetune.weights == lineage["training"]["weights_uri"]
    for form in ("tflite", "keras"):
        made = stack.graft_json("export", name, "--format", form, "--out", str(tmp_path / f"{form}.zip"))
        assert Path(made["file"]).stat().st_size > 10_000_000
