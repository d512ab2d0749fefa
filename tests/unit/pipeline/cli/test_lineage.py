"""A version's way back, and the same work done again, on a fake engine whose jobs do what real ones would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.folders import DatasetVersionFolder
from pipeline.artifacts.history import EventType, HistoryEvent, record_event
from pipeline.artifacts.model_record import DatasetReference, TrainingReference
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.deploy.lineage import build_lineage
from pipeline.deploy.reproduce import reproduce_version
from pipeline.deploy.trace import trace_version
from pipeline.errors import PlatformError
from pipeline.evaluate.evaluation import evaluate_model
from pipeline.evaluate.gate import decide_gate
from pipeline.evaluate.predictions import PredictionJob
from pipeline.storage import Storage
from tests.fakes.dataset import row, write_rows
from tests.fakes.ml_engine import FakeMLEngine

DATASET = "gs://graft/datasets/m/d_1"
CLASSIFIER = Classifier.from_dict(
    {"name": "m", "dataset": {"source": {"type": "sample"}}, "gate": {"min_accuracy": 0.99}}
)
OVERRIDE = {"override_by": "Ada", "override_reason": "demo"}


class World:
    """A bucket with a dataset version and one deployed version of a model."""

    def __init__(self, home: Path) -> None:
        self.storage = Storage({"graft": home / "buckets" / "graft"})
        self.workspace = Workspace(self.storage, "gs://graft")
        self.engine = FakeMLEngine(run_job=self.run_job)
        self.cat = 0.6
        rows = [
            row("t1", "cat", source_url="https://a.org/1"),
            row("t2", "dog", source_url="https://b.org/2"),
            row("x1", "dog", split="train", license="cc0"),
            row("x2", "dog", split=None, status="quarantined"),
        ]
        write_rows(self.storage, DATASET, *rows)
        training = {"args": ["--seed", "42"], "jobDir": "gs://graft/jobs/train_1"}
        self.engine.create_job({"jobId": "train_1", "trainingInput": training})
        self.deploy()

    def run_job(self, job: dict[str, Any]) -> dict[str, Any]:
        if "trainingInput" in job:
            return {"state": "SUCCEEDED"}
        rows = [
            {"key": key, "outputs": [self.cat, 1 - self.cat], "label": "cat", "score": self.cat}
            for key in ("t1", "t2")
        ]
        uri = f"{job['predictionInput']['outputPath']}/prediction.results-00000-of-00001"
        self.storage.write_bytes(uri, "\n".join(map(json.dumps, rows)).encode())
        return {"state": "SUCCEEDED", "predictionOutput": {"predictionCount": "2", "errorCount": "0"}}

    def deploy(self) -> None:
        given = {"outputPath": "gs://graft/jobs/p/predictions", "inputPaths": [], "runtimeVersion": "2.21"}
        job = self.engine.create_job({"jobId": "predict_1", "predictionInput": given})
        evaluation = evaluate_model(
            DatasetVersionFolder(self.storage, DATASET),
            classes=("cat", "dog"),
            candidate_job=PredictionJob.of(job),
        )
        lineage = build_lineage(
            CLASSIFIER,
            run_id="r1",
            dataset=DatasetReference(dataset="m", version="d_1", uri=DATASET, classes={"cat": 1, "dog": 2}),
            training=TrainingReference(
                job="train_1",
                weights_uri="gs://graft/weights/abc",
                package_uri="gs://graft/packages/def.tar.gz",
                runtime_version="2.21",
            ),
            evaluation=evaluation,
            decision=decide_gate(evaluation, CLASSIFIER.gate.model_copy(update=OVERRIDE)),
        )
        model = self.workspace.model("m", "v_1")
        lineage.write(self.storage, model.lineage)
        evaluation.write(self.storage, model.evaluation)
        self.engine.ensure_model("m")
        self.engine.create_version("m", {"name": "v_1"})
        event = HistoryEvent(event=EventType.PROMOTED, version="v_1", run_id="r1")
        record_event(self.workspace, "m", event)

    def trace(self, version: str | None = None) -> dict[str, Any]:
        return trace_version(self.workspace, self.engine, "m", version).to_dict()

    def reproduce(self, attempt: str = "1") -> dict[str, Any]:
        return reproduce_version(
            self.workspace, self.engine, model="m", version="v_1", attempt=attempt
        ).to_dict()


@pytest.fixture
def world(home: Path) -> World:
    return World(home)


class TestTrace:
    def test_walks_from_version_to_pictures_weights_code_and_parameters(self, world: World) -> None:
        found = world.trace()
        assert found == world.trace("v_1")
        assert (found["version"], found["is_default"], found["run_id"]) == ("v_1", True, "r1")
        assert found["gate"]["decided_by"] == "Ada"
        assert found["gate"]["override"] == {"by": "Ada", "reason": "demo"}
        assert found["gate"]["reasons"][0].startswith("absolute.accuracy.min:")
        assert found["dataset"]["splits"] == {"test": 2, "train": 1}
        assert found["dataset"]["sources"] == {"(none)": 1, "a.org": 1, "b.org": 1}
        assert found["dataset"]["licenses"] == {"not stated": 2, "cc0": 1}
        assert (found["weights"]["sha256"], found["package"]["sha256"]) == ("abc", "def")
        assert found["training"]["args"] == ["--seed", "42"]
        assert found["parameters"] == CLASSIFIER.to_dict()
        assert len(found["requirements"]["sha256"]) == 64
        assert [event["event"] for event in found["history"]] == ["promoted"]
        assert json.loads(json.dumps(found)) == found

    def test_unknown_version_is_said(self, world: World) -> None:
        with pytest.raises(PlatformError, match="no version v_9. `graft versions m` lists them"):
            world.trace("v_9")

    def test_version_of_somebody_else_has_no_lineage(self, world: World) -> None:
        world.engine.create_version("m", {"name": "v_2", "deploymentUri": "gs://graft/theirs"})
        with pytest.raises(PlatformError, match="v_2 of m carries no lineage"):
            world.trace("v_2")


class TestReproduction:
    def test_agrees_when_the_same_comes_out(self, world: World) -> None:
        found = world.reproduce()
        assert (found["agrees"], found["differing"]) == (True, [])
        assert found["recorded"] == found["reproduced"]
        assert found["largest_output_difference"] == 0.0
        first, second = found["jobs"], world.reproduce("2")["jobs"]
        assert not set(first) & set(second)
        given = world.engine.jobs[first[0]]["trainingInput"]
        assert (given["args"], given["jobDir"]) == (["--seed", "42"], f"gs://graft/jobs/{first[0]}")
        assert world.engine.jobs[first[1]]["predictionInput"]["uri"] == f"{given['jobDir']}/model"
        assert len(world.engine.list_versions("m")) == 1

    def test_tells_what_differs(self, world: World) -> None:
        world.cat = 0.7
        found = world.reproduce()
        assert found["agrees"] is False
        assert {"loss", "brier"} <= set(found["differing"])
        assert "accuracy" not in found["differing"]
        assert found["largest_output_difference"] == pytest.approx(0.1)

    def test_needs_the_jobs_input(self, world: World) -> None:
        del world.engine.jobs["train_1"]
        with pytest.raises(PlatformError, match="train_1, whose input would be used again, is gone"):
            world.reproduce()


class TestCommands:
    @pytest.fixture(autouse=True)
    def _stack(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        from pipeline.cli import lineage

        monkeypatch.setattr(lineage, "require_stack", dict)
        monkeypatch.setattr(lineage, "connect_engine", lambda status: world.engine)

    def test_lineage_is_printed_for_people_and_programs(
        self, world: World, graft: Callable[..., Any]
    ) -> None:
        assert graft("lineage", "m", "--json").document == world.trace()
        text = graft("lineage", "m", "v_1").stdout
        assert "m v_1 (serves)" in text
        assert "decided by    Ada: demo" in text
        assert "licences      2 not stated, 1 cc0" in text

    def test_reproduce_says_whether_metrics_agree(self, world: World, graft: Callable[..., Any]) -> None:
        agreed = graft("reproduce", "m", "v_1")
        assert (agreed.code, "agree exactly" in agreed.stdout) == (0, True)
        world.cat = 0.7
        differs = graft("reproduce", "m", "v_1", "--json")
        assert (differs.code, differs.document["agrees"]) == (1, False)
        assert "DIFFER" in graft("reproduce", "m", "v_1").stdout
