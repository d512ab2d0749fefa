"""Looking inside, without a network: what is asked of the child, and what is made of its answers."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import explain
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.imagenet import imagenet_labels
from pipeline.errors import ConfigError, ModelError, PlatformError, SourceNotFound
from pipeline.explain import Explanation, network
from pipeline.explain.figure import THEMES, draw_explanation, save_figure
from pipeline.npz import write_npz
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.prediction import ask_others, predict_picture
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.model_record import lineage
from tests.fakes.pictures import encode

BUCKET = "gs://graft"
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
        assert found.file == "a.png"
        assert [row.label for row in found.top] == ["espresso", "Egyptian cat"]
        powers = np.exp(logits)
        assert found.top[0].score == pytest.approx(powers[967] / powers.sum())

    def test_a_missing_file_is_named_before_any_network_is_made(self) -> None:
        with pytest.raises(SourceNotFound, match=r"absent\.png cannot be read: No such file"):
            explain.classify(["absent.png"])

    def test_the_child_is_a_module_that_there_is(self) -> None:
        assert importlib.util.find_spec(network._CHILD[-1]) is not None

    def test_a_child_that_dies_is_an_error_with_its_last_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            network, "_CHILD", (network.sys.executable, "-c", "raise SystemExit('no memory')")
        )
        with pytest.raises(ModelError, match="ended with 1:\nno memory"):
            explain.layers("efficientnet_lite0")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A version whose training saw three pictures, the first of which is the one asked about."""
    storage = Storage({"graft": tmp_path})
    dataset, job = f"{BUCKET}/datasets/m/1", f"{BUCKET}/jobs/j"
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
        storage.write_bytes(f"{BUCKET}/blobs/blob{number}", picture(number * 60))
    features = np.eye(4, WIDTH, dtype=np.float32) + 0.1
    ids = np.array([row["id"] for row in rows], "S")
    storage.write_bytes(f"{BUCKET}/features/a.npz", write_npz({"ids": ids, "features": features}))
    storage.write_json(f"{job}/training.json", {"features": [f"{BUCKET}/features/a.npz"]})
    made_of = lineage(dataset_uri=dataset, model_uri=f"{job}/model", classes=("brick", "grass"))
    made_of.write(storage, f"{BUCKET}/models/m/v1/graft/lineage.json")
    storage.write_json(f"{BUCKET}/models/m/v1/graft/labels.json", ["brick", "grass"])
    return Workspace(storage, BUCKET)


def answer_explained(version: str, instance: Any) -> dict[str, Any]:
    features = [255, 50, 0, 0, 0, 0, 0, 0]
    answer = {"key": instance["key"], "outputs": [0.9, 0.1], "label": "brick", "score": 0.9, "novelty": 0.97}
    return {**answer, "features": features, "activation": [[1.0, 0.0], [0.0, 0.0]]}


@pytest.fixture
def engine() -> FakeMLEngine:
    engine = FakeMLEngine(answer=answer_explained)
    engine.ensure_model("m")
    engine.create_version("m", {"name": "v1", "deploymentUri": f"{BUCKET}/models/m/v1"})
    return engine


@pytest.fixture
def explanation(workspace: Workspace, engine: FakeMLEngine) -> Explanation:
    return explain.explain(workspace, engine, "m", picture(10))


class TestExplanation:
    def test_the_answer_and_the_outputs_by_class(self, explanation: Explanation) -> None:
        assert (explanation.version, explanation.label, explanation.score) == ("v1", "brick", 0.9)
        assert explanation.outputs == {"brick": 0.9, "grass": 0.1}
        assert explanation.to_dict()["novelty"] == 0.97

    @pytest.mark.parametrize(("limit", "is_unlike"), [(0.0, False), (0.95, True), (0.98, False)])
    def test_a_picture_above_the_versions_novelty_is_rejected(
        self, explanation: Explanation, limit: float, is_unlike: bool
    ) -> None:
        judged = replace(explanation, rejected_unlike=limit)
        assert (judged.is_unlike, judged.is_rejected) == (is_unlike, is_unlike)

    def test_a_version_without_novelty_rejects_nothing_by_it(self, explanation: Explanation) -> None:
        assert not replace(explanation, novelty=None, rejected_unlike=0.95).is_rejected

    def test_the_strongest_channels_come_with_the_training_pictures_that_light_them(
        self, explanation: Explanation
    ) -> None:
        first, second = explanation.channels[:2]
        assert (first.number, first.share) == (0, 1.0)
        assert first.pictures[0][0].id == "id0"
        assert second.number == 1
        assert second.pictures[0][0].id == "id1"

    def test_neighbours_are_training_pictures_by_cosine(self, explanation: Explanation) -> None:
        assert explanation.neighbours[0].row.id == "id0"
        assert {near.row.id for near in explanation.neighbours} == {"id0", "id1", "id2"}
        cosines = [near.cosine for near in explanation.neighbours]
        assert cosines == sorted(cosines, reverse=True)

    def test_it_is_plain_json(self, explanation: Explanation) -> None:
        document = json.loads(json.dumps(explanation.to_dict()))
        assert document == explanation.to_dict()
        assert document["neighbours"][0].keys() == {"id", "blob", "label", "source", "cosine"}
        assert document["channels"][0]["pictures"][0].keys() == {"id", "blob", "label", "source", "value"}

    @pytest.mark.parametrize("gone", [{"id": "id0", "blobs": []}, {"id": None, "blobs": ["blob0"]}])
    def test_a_picture_that_was_taken_down_is_not_shown(
        self, workspace: Workspace, engine: FakeMLEngine, gone: dict[str, Any]
    ) -> None:
        line = json.dumps({**gone, "urls": [], "at": "2026-01-01T00:00:00Z"})
        workspace.storage.write_bytes(workspace.dataset("m").takedowns, line.encode())
        explanation = explain.explain(workspace, engine, "m", picture(10))
        assert {near.row.id for near in explanation.neighbours} == {"id1", "id2"}
        shown = [row.id for channel in explanation.channels for row, _ in channel.pictures]
        assert "id0" not in shown

    def test_a_version_without_cached_features_still_answers(
        self, workspace: Workspace, engine: FakeMLEngine
    ) -> None:
        workspace.storage.delete_tree(f"{BUCKET}/jobs/j")
        explanation = explain.explain(workspace, engine, "m", picture(10))
        assert (explanation.label, explanation.neighbours) == ("brick", ())

    def test_a_version_that_was_not_deployed_by_graft_is_answered_without_training_pictures(
        self, workspace: Workspace, engine: FakeMLEngine
    ) -> None:
        workspace.storage.delete_tree(f"{BUCKET}/models/m")
        explanation = explain.explain(workspace, engine, "m", picture(10))
        assert explanation.outputs == {"class 0": 0.9, "class 1": 0.1}
        assert (explanation.dataset, explanation.neighbours) == (None, ())
        view = predict_picture(ArtifactCache(workspace), engine, "m", picture(10))
        assert (view.dataset_version, view.neighbours) == (None, ())

    def test_a_missing_picture_is_named(self, workspace: Workspace, engine: FakeMLEngine) -> None:
        with pytest.raises(SourceNotFound, match=r"absent\.png cannot be read"):
            explain.explain_file(workspace, engine, "m", "absent.png")

    def test_an_unknown_classifier_is_named(self, workspace: Workspace, engine: FakeMLEngine) -> None:
        with pytest.raises(PlatformError, match="model 'n' has no version that serves"):
            explain.explain(workspace, engine, "n", picture(10))

    def test_a_page_shows_the_same(self, workspace: Workspace, engine: FakeMLEngine) -> None:
        view = predict_picture(ArtifactCache(workspace), engine, "m", picture(10))
        plain = explain.explain(workspace, engine, "m", picture(10))
        assert replace(view.explanation, milliseconds=0) == replace(plain, milliseconds=0, file="the picture")
        assert view.bars == [("brick", 0.9), ("grass", 0.1)]
        assert [near.picture.id for near in view.neighbours] == [near.row.id for near in plain.neighbours]
        assert [channel.number for channel in view.channels] == [each.number for each in plain.channels]
        assert view.dataset_version == "1"
        assert view.picture != view.heated

    def test_a_page_shows_what_the_other_classifiers_say_that_may_be_asked(
        self, workspace: Workspace, engine: FakeMLEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("a", "b", "secret", "m__candidate"):
            engine.ensure_model(name)
            engine.create_version(name, {"name": f"v_{name}"})
        engine.ensure_model("empty")
        asked: list[list[str]] = []

        def answer(models: list[str], instances: list[Any], *, signature_name: str) -> dict[str, Any]:
            asked.append(models)
            assert signature_name == "keyed"
            row = {"key": "picture", "label": "", "score": 0.25}
            return {models[0]: [row], models[1]: PlatformError("b is being loaded")}

        monkeypatch.setattr(engine, "predict_many", answer)
        cache = ArtifactCache(workspace)
        view = predict_picture(cache, engine, "m", picture(10), may_ask=lambda name: name != "secret")
        assert asked == [["a/versions/v_a", "b/versions/v_b"]]
        assert [(each.classifier, each.label, each.score, each.error) for each in view.others] == [
            ("a", None, 0.25, None),
            ("b", None, None, "b is being loaded"),
        ]
        assert predict_picture(cache, engine, "m", picture(10)).others == []

        def refuse(models: list[str], instances: list[Any], **more: Any) -> dict[str, Any]:
            raise PlatformError("there is no such call")

        monkeypatch.setattr(engine, "predict_many", refuse)
        view = predict_picture(cache, engine, "m", picture(10), may_ask=lambda name: name == "a")
        assert [(each.classifier, each.error) for each in view.others] == [("a", "there is no such call")]

    def test_a_large_picture_goes_to_each_classifier_at_the_size_of_its_network(
        self, workspace: Workspace, engine: FakeMLEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, side in (("a", 32), ("b", 16), ("c", 32), ("d", None)):
            engine.ensure_model(name)
            engine.create_version(name, {"name": "v"})
            if side:
                spec = PixelSpec(height=side, width=side, offset=0.0, divisor=255.0)
                manifest = {"spec": spec.to_dict()}
                workspace.storage.write_json(f"{BUCKET}/models/{name}/v/graft/light.json", manifest)
        asked: dict[str, tuple[int, int]] = {}

        def answer(models: list[str], instances: list[Any], **_: Any) -> dict[str, Any]:
            picture = Image.open(io.BytesIO(base64.b64decode(instances[0]["inputs"]["b64"])))
            asked[" ".join(models)] = picture.size
            return {model: [{"label": model, "score": 0.5}] for model in models}

        monkeypatch.setattr(engine, "predict_many", answer)
        pixels = np.random.default_rng(1).integers(0, 256, (700, 700, 3), np.uint8)
        Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
        others = ask_others(workspace, engine, "m", file.getvalue(), may_ask=lambda name: name != "m")
        assert asked == {
            "a/versions/v c/versions/v": (32, 32),
            "b/versions/v": (16, 16),
            "d/versions/v": (700, 700),
        }
        assert [each.classifier for each in others] == ["a", "b", "c", "d"]


class TestFigure:
    @pytest.mark.parametrize("theme", sorted(THEMES))
    def test_it_is_a_picture_on_its_own_paper(
        self, theme: str, explanation: Explanation, workspace: Workspace
    ) -> None:
        figure = draw_explanation(workspace, explanation, picture(10), theme=theme)
        image = Image.open(io.BytesIO(save_figure(figure, "png"))).convert("RGB")
        assert "#{:02x}{:02x}{:02x}".format(*image.getpixel((2, 2))) == THEMES[theme]["page"]

    def test_as_svg_it_says_what_is_drawn(self, explanation: Explanation, workspace: Workspace) -> None:
        svg = save_figure(draw_explanation(workspace, explanation, picture(10)), "svg")
        assert svg.startswith(b"<?xml")
        assert svg == save_figure(draw_explanation(workspace, explanation, picture(10)), "svg")

    def test_another_theme_or_format_is_refused(self, explanation: Explanation, workspace: Workspace) -> None:
        with pytest.raises(ConfigError, match="one of light, dark"):
            draw_explanation(workspace, explanation, picture(10), theme="blue")
        with pytest.raises(ConfigError, match=r"\.png or \.svg"):
            save_figure(None, "pdf")
