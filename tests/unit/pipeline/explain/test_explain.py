"""Looking inside, without a network: what is asked of the child, and what is made of its answers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import explain
from pipeline.backbones.imagenet import imagenet_labels
from pipeline.errors import ConfigError, ModelError, PlatformError, SourceNotFound
from pipeline.explain import network
from pipeline.explain.figure import THEMES, draw_features, save_figure
from pipeline.npz import write_npz
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.pictures import encode

WORKSPACE = "gs://graft"
WIDTH = 8


def picture(level: int) -> bytes:
    return encode(Image.new("RGB", (12, 8), (level, 80, 255 - level)), "PNG")


class TestImageNetNames:
    def test_there_is_a_name_for_each_class_and_no_two_are_equal(self) -> None:
        assert len(imagenet_labels()) == len(set(imagenet_labels())) == 1000

    @pytest.mark.parametrize(
        ("number", "name"),
        [(0, "tench"), (285, "Egyptian cat"), (657, "missile"), (744, "projectile"), (967, "espresso")],
    )
    def test_the_order_is_that_of_the_network(self, number: int, name: str) -> None:
        assert imagenet_labels()[number] == name


class TestClassify:
    def test_the_most_probable_classes_come_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        logits = np.zeros(1000)
        logits[[967, 285]] = (9, 7)
        monkeypatch.setattr(network, "ask_network", lambda request: [logits.tolist()])
        (found,) = explain.classify([Path("a.png")], top=2)
        assert found["file"] == "a.png"
        assert [row["label"] for row in found["top"]] == ["espresso", "Egyptian cat"]
        powers = np.exp(logits)
        assert found["top"][0]["score"] == pytest.approx(powers[967] / powers.sum())

    def test_a_missing_file_is_named_before_any_network_is_made(self) -> None:
        with pytest.raises(SourceNotFound, match=r"absent\.png cannot be read: No such file"):
            explain.classify(["absent.png"])

    def test_a_child_that_dies_is_an_error_with_its_last_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            network, "_CHILD", (network.sys.executable, "-c", "raise SystemExit('no memory')")
        )
        with pytest.raises(ModelError, match="ended with 1:\nno memory"):
            explain.layers("efficientnet_lite0")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A version whose training saw three pictures, the first of which is the one asked about."""
    storage = Storage({"graft": tmp_path})
    dataset, job = f"{WORKSPACE}/datasets/m/1", f"{WORKSPACE}/jobs/j"
    rows = [
        {
            "id": f"id{number}",
            "blob": f"blob{number}",
            "label": label,
            "position": number,
            "source_url": f"file:///{number}.png",
            "retrieved_at": "2026-01-01T00:00:00Z",
            "status": "kept",
            "split": "train" if number < 3 else "test",
        }
        for number, label in enumerate(["brick", "brick", "grass", "grass"])
    ]
    storage.write_bytes(f"{dataset}/manifest.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    for number in range(4):
        storage.write_bytes(f"{WORKSPACE}/blobs/blob{number}", picture(number * 60))
    features = np.eye(4, WIDTH, dtype=np.float32) + 0.1
    ids = np.array([row["id"] for row in rows], "S")
    storage.write_bytes(f"{WORKSPACE}/features/a.npz", write_npz({"ids": ids, "features": features}))
    storage.write_json(f"{job}/training.json", {"features": [f"{WORKSPACE}/features/a.npz"]})
    lineage = {
        "dataset": {"uri": dataset},
        "training": {"model_uri": f"{job}/model", "classes": ["brick", "grass"]},
    }
    storage.write_json(f"{WORKSPACE}/models/m/v1/graft/lineage.json", lineage)
    return storage


def answer_explained(version: str, instance: Any) -> dict[str, Any]:
    features = [255, 50, 0, 0, 0, 0, 0, 0]
    answer = {"key": instance["key"], "outputs": [0.9, 0.1], "label": "brick", "score": 0.9}
    return {**answer, "features": features, "activation": [[1.0, 0.0], [0.0, 0.0]]}


@pytest.fixture
def engine() -> FakeMLEngine:
    engine = FakeMLEngine(answer=answer_explained)
    engine.ensure_model("m")
    engine.create_version("m", {"name": "v1", "deploymentUri": f"{WORKSPACE}/models/m/v1"})
    return engine


@pytest.fixture
def found(storage: Storage, engine: FakeMLEngine, tmp_path: Path) -> explain.Features:
    (tmp_path / "asked.png").write_bytes(picture(10))
    return explain.features("m", tmp_path / "asked.png", engine=engine, storage=storage, workspace=WORKSPACE)


class TestFeatures:
    def test_the_answer_and_the_outputs_by_class(self, found: explain.Features) -> None:
        assert (found.version, found.label, found.score) == ("v1", "brick", 0.9)
        assert found.outputs == {"brick": 0.9, "grass": 0.1}

    def test_the_strongest_channels_come_with_the_training_pictures_that_light_them(
        self, found: explain.Features
    ) -> None:
        first = found.channels[0]
        assert (first["channel"], first["value"]) == (0, 1.0)
        assert first["pictures"][0]["id"] == "id0"
        assert found.channels[1]["channel"] == 1
        assert found.channels[1]["pictures"][0]["id"] == "id1"

    def test_neighbours_are_training_pictures_by_cosine(self, found: explain.Features) -> None:
        assert [row["id"] for row in found.neighbours][0] == "id0"
        assert {row["id"] for row in found.neighbours} == {"id0", "id1", "id2"}
        cosines = [row["cosine"] for row in found.neighbours]
        assert cosines == sorted(cosines, reverse=True)

    def test_it_is_plain_json(self, found: explain.Features) -> None:
        assert json.loads(json.dumps(found.to_dict())) == found.to_dict()

    def test_a_version_without_cached_features_still_answers(
        self, storage: Storage, engine: FakeMLEngine, tmp_path: Path
    ) -> None:
        storage.delete_tree(f"{WORKSPACE}/jobs/j")
        (tmp_path / "asked.png").write_bytes(picture(10))
        found = explain.features(
            "m", tmp_path / "asked.png", engine=engine, storage=storage, workspace=WORKSPACE
        )
        assert (found.label, found.neighbours) == ("brick", [])

    def test_a_missing_picture_is_named(self, storage: Storage, engine: FakeMLEngine) -> None:
        with pytest.raises(SourceNotFound, match=r"absent\.png cannot be read"):
            explain.features("m", "absent.png", engine=engine, storage=storage, workspace=WORKSPACE)

    def test_an_unknown_classifier_is_named(
        self, storage: Storage, engine: FakeMLEngine, tmp_path: Path
    ) -> None:
        (tmp_path / "asked.png").write_bytes(picture(10))
        with pytest.raises(PlatformError, match="model 'n' has no version that serves"):
            explain.features("n", tmp_path / "asked.png", engine=engine, storage=storage, workspace=WORKSPACE)


class TestFigure:
    @pytest.mark.parametrize("theme", sorted(THEMES))
    def test_it_is_a_picture_on_its_own_paper(
        self, theme: str, found: explain.Features, storage: Storage
    ) -> None:
        figure = draw_features(found, picture(10), storage, WORKSPACE, theme=theme)
        image = Image.open(io.BytesIO(save_figure(figure, "png"))).convert("RGB")
        assert "#{:02x}{:02x}{:02x}".format(*image.getpixel((2, 2))) == THEMES[theme]["page"]

    def test_as_svg_it_says_what_is_drawn(self, found: explain.Features, storage: Storage) -> None:
        svg = save_figure(draw_features(found, picture(10), storage, WORKSPACE), "svg")
        assert svg.startswith(b"<?xml")
        assert svg == save_figure(draw_features(found, picture(10), storage, WORKSPACE), "svg")

    def test_another_theme_or_format_is_refused(self, found: explain.Features, storage: Storage) -> None:
        with pytest.raises(ConfigError, match="one of light, dark"):
            draw_features(found, picture(10), storage, WORKSPACE, theme="blue")
        with pytest.raises(ConfigError, match=r"\.png or \.svg"):
            save_figure(None, "pdf")
