"""A fine-tuning job of a real engine is killed, in part and as a whole, and its work goes on."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.artifacts.finetuning import FinetuneParameters
from pipeline.artifacts.training import TrainingRecord, TrainingSpec
from pipeline.artifacts.workspace import Workspace
from pipeline.ml_engine.jobs import training_job
from pipeline.ml_v1 import RUNTIME_VERSION
from pipeline.submission.package import stage_package
from pipeline.trainer import finetune_process, task
from tests.fakes.clock import wait_for
from tests.integration.engine_process import EngineProcess
from tests.integration.trainer_pack import make_bucket, tiny_pictures

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1500)]
EPOCHS = 12
PARAMETERS = FinetuneParameters(blocks=1, on="pictures", epochs=EPOCHS, learning_rate=1e-4, augments=True)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    engine = EngineProcess(tmp_path)
    engine.start()
    yield engine
    engine.close()


class Jobs:
    """Jobs of one engine that do the same work."""

    def __init__(self, engine: EngineProcess) -> None:
        storage, arguments = make_bucket(engine.home / "buckets" / "graft", *tiny_pictures(24))
        self.engine, self.workspace = engine, Workspace(storage, "gs://graft")
        spec = TrainingSpec.from_args(arguments)
        self.spec = replace(spec, job_dir="", finetune=PARAMETERS.to_text(), calibration="none")
        self.package = stage_package(self.workspace)

    def submit(self, job_id: str, **changes: Any) -> None:
        body = training_job(
            job_id,
            package_uri=self.package,
            module=task.__name__,
            args=replace(self.spec, **changes).to_args(),
            job_dir=self.workspace.job(job_id).uri,
            runtime_version=RUNTIME_VERSION,
            labels={},
            max_running_seconds=1200,
        )
        self.engine.client().jobs().create(parent="projects/local", body=body).execute()

    def log(self, job_id: str) -> str:
        path = self.engine.home / "engine" / "jobs" / job_id / "log.txt"
        return path.read_text() if path.exists() else ""

    def finetune(self, job_id: str) -> Any:
        return TrainingRecord.read(self.workspace.job(job_id)).finetune


def kill_processes(job_id: str, *programs: str) -> None:
    """Kill the processes of a job: those that run one of some programs, or all of them."""
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if f"/jobs/{job_id}" in " ".join(line) and (not programs or {*programs} & {*line}):
                process.kill()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def test_it_goes_on_after_the_last_epoch_and_gives_the_same_weights(engine: EngineProcess) -> None:
    jobs = Jobs(engine)
    jobs.submit("first_one")
    wait_for(lambda: f"epoch 2 of {EPOCHS}" in jobs.log("first_one"), seconds=500)
    kill_processes("first_one", finetune_process.__name__, task.__name__)  # the engine starts it again
    wait_for(lambda: "Going on after epoch" in jobs.log("first_one"), seconds=500)
    before = jobs.log("first_one").count("\n")
    wait_for(lambda: "epoch" in "".join(jobs.log("first_one").splitlines()[before:]), seconds=500)
    kill_processes("first_one")  # with the process that watches it, as when a machine is lost
    engine.wait_job("first_one", "FAILED", seconds=120)
    done = max(int(number) for number in re.findall(rf"epoch (\d+) of {EPOCHS}:", jobs.log("first_one")))
    assert 2 < done < EPOCHS, "it must be killed between two epochs"

    jobs.submit("second_one")
    wait_for(lambda: "Going on after epoch" in jobs.log("second_one"), seconds=500)
    engine.end(signal.SIGKILL)  # the job works on
    engine.start()
    engine.wait_job("second_one", "SUCCEEDED", seconds=600)
    resumed = jobs.finetune("second_one")
    assert done <= resumed.resumed_after < EPOCHS, "the last line may be lost, the checkpoint is not"
    assert f"Going on after epoch {resumed.resumed_after} of {EPOCHS}" in jobs.log("second_one")

    jobs.submit("whole", workspace="gs://graft/elsewhere")  # where no job has left anything
    engine.wait_job("whole", "SUCCEEDED", seconds=600)
    whole = jobs.finetune("whole")
    assert (whole.resumed_after, whole.history) == (0, resumed.history)
    assert Path(whole.weights).name == Path(resumed.weights).name, "named by the digest of their bytes"
