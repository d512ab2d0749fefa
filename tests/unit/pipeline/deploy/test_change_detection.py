from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.history import EventType, HistoryEvent, record_event
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.deploy.change_detection import RetrainSkip, find_retrain_skip
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.model_record import lineage

HEAD = b"def build_head(feature_width, num_classes): ..."


class World:
    """A model that serves a version made of `d_1`, with a head of the user's own if one is given."""

    def __init__(self, home: Path) -> None:
        self.head = home / "head.py"
        self.workspace = Workspace(Storage({"graft": home / "bucket"}), "gs://graft")
        self.engine = FakeMLEngine()
        self.engine.ensure_model("m")

    def classifier(self, **model: Any) -> Classifier:
        return Classifier.from_dict({"name": "m", "dataset": {"source": {"type": "sample"}}, "model": model})

    def deploy(self, version: str, dataset: str, **model: Any) -> None:
        self.engine.create_version("m", {"name": version})
        self.engine.set_default("m", version)
        digest = hashlib.sha256(self.head.read_bytes()).hexdigest() if "head" in model else ""
        made_of = lineage(
            classifier=self.classifier(**model),
            dataset_version=dataset,
            head_uri=self.workspace.head_file(digest) if digest else None,
        )
        made_of.write(self.workspace.storage, self.workspace.model("m", version).lineage)

    def find(self, dataset: str, **model: Any) -> RetrainSkip | None:
        return find_retrain_skip(self.workspace, self.engine, self.classifier(**model), dataset)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_there_is_all_to_train_while_nothing_serves(world: World) -> None:
    assert world.find("d_1") is None


def test_the_same_pictures_and_parameters_are_nothing_new(world: World) -> None:
    world.deploy("v_1", "d_1", epochs=3)
    found = world.find("d_1", epochs=3)
    assert found is not None
    assert (found.champion, "`v_1` serves" in found.reason) == ("v_1", True)
    assert world.find("d_2", epochs=3) is None
    assert world.find("d_1", epochs=4) is None


def test_a_version_that_a_person_rolled_back_is_nothing_new(world: World) -> None:
    world.deploy("v_1", "d_1")
    world.deploy("v_2", "d_2")
    world.engine.set_default("m", "v_1")
    event = HistoryEvent(
        event=EventType.ROLLED_BACK, version="v_1", previous="v_2", run_id="r", by="Ada", reason="snow"
    )
    record_event(world.workspace, "m", event)
    found = world.find("d_2")
    assert found is not None
    assert "Ada rolled it back: snow" in found.reason


def test_a_version_that_a_promotion_replaced_may_be_trained_again(world: World) -> None:
    world.deploy("v_1", "d_1")
    world.deploy("v_2", "d_2")
    event = HistoryEvent(
        event=EventType.PROMOTED, version="v_2", previous="v_1", run_id="r", by="Ada", reason=None
    )
    record_event(world.workspace, "m", event)
    assert world.find("d_1") is None


def test_an_edited_or_missing_file_of_a_head_is_something_new(world: World) -> None:
    world.head.write_bytes(HEAD)
    model = {"head": {"module": str(world.head)}}
    world.deploy("v_1", "d_1", **model)
    assert world.find("d_1", **model) is not None
    world.head.write_bytes(HEAD + b"  # wider")
    assert world.find("d_1", **model) is None
    world.head.unlink()
    assert world.find("d_1", **model) is None
