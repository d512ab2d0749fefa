from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.bulk import answers as answers_module
from pipeline.bulk.answers import predict_pictures
from pipeline.cli import predict as module
from pipeline.errors import PlatformError
from pipeline.pixels.host import decode_picture, decode_resized
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine

Graft = Callable[..., Any]


def answer(version: str, instance: dict[str, Any]) -> dict[str, Any]:
    """Answer with the picture's own bytes as its label."""
    label = base64.b64decode(instance["inputs"]["b64"]).decode()[:5]
    return {
        "key": instance["key"],
        "label": label,
        "score": 0.75,
        "novelty": 0.5,
        "outputs": [0.75, 0.25],
    }


class Engine(FakeMLEngine):
    """Remembers its calls, and answers in another order than it was asked."""

    def __init__(self) -> None:
        super().__init__(answer=answer)
        self.calls: list[dict[str, Any]] = []
        self.ensure_model("tiles")
        self.create_version("tiles", {"name": "v_1"})
        self.create_version("tiles", {"name": "v_2"})

    def predict(self, model: str, instances: list[Any], **arguments: Any) -> list[Any]:
        self.calls.append({"model": model, "pictures": len(instances), **arguments})
        return super().predict(model, instances, **arguments)[::-1]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(module, "require_stack", dict)
    monkeypatch.setattr(module, "connect_engine", lambda status: engine)
    return engine


def test_answers_are_joined_by_key_and_keep_the_order_of_files(engine: Engine) -> None:
    found = predict_pictures(engine, "tiles", {"b": b"grass", "a": b"brick"})
    rest = {"score": 0.75, "novelty": 0.5, "outputs": [0.75, 0.25], "version": "v_1"}
    assert [each.to_dict() for each in found] == [
        {"file": "b", "label": "grass", **rest},
        {"file": "a", "label": "brick", **rest},
    ]


def test_a_rejected_picture_has_the_label_null(engine: Engine) -> None:
    engine.answer = lambda version, instance: {
        "key": instance["key"],
        "label": "",
        "score": 0.4,
        "outputs": [0.4],
    }
    [prediction] = predict_pictures(engine, "tiles", {"a": b"x"})
    assert prediction.label is None
    assert prediction.novelty is None  # of a model from before there was one


def test_all_pictures_go_to_the_version_that_was_default_at_the_start(engine: Engine) -> None:
    predict_pictures(engine, "tiles", {"a": b"brick"})
    assert engine.calls == [{"model": "tiles", "pictures": 1, "version": "v_1", "signature_name": "keyed"}]


def test_many_pictures_are_sent_in_requests_the_engine_takes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "MAX_REQUEST_BYTES", 10)
    pictures = {"a": b"12345", "b": b"12345", "c": b"1", "d": b"x" * 50, "e": b"1"}
    assert [row.file for row in predict_pictures(engine, "tiles", pictures)] == list(pictures)
    assert [call["pictures"] for call in engine.calls] == [2, 1, 1, 1]


def test_model_without_a_version_says_how_to_make_one(engine: Engine) -> None:
    with pytest.raises(PlatformError, match="graft run other"):
        predict_pictures(engine, "other", {"a": b"brick"})


class TestCommand:
    def test_json_has_one_row_for_each_file(self, graft: Graft, engine: Engine, tmp_path: Path) -> None:
        files = [tmp_path / "one.jpg", tmp_path / "two.jpg"]
        for path, data in zip(files, (b"brick", b"grass"), strict=True):
            path.write_bytes(data)
        outcome = graft("predict", "tiles", *map(str, files), "--version", "v_2", "--json")
        assert outcome.code == 0
        assert [row["file"] for row in outcome.document] == [str(path) for path in files]
        assert {row["version"] for row in outcome.document} == {"v_2"}
        assert set(outcome.document[0]) == {"file", "label", "score", "novelty", "outputs", "version"}

    def test_text_is_a_table(self, graft: Graft, engine: Engine, tmp_path: Path) -> None:
        (tmp_path / "one.jpg").write_bytes(b"brick")
        lines = graft("predict", "tiles", str(tmp_path / "one.jpg"), "--wide").stdout.splitlines()
        assert lines[0].split() == ["file", "label", "score", "novelty", "version"]
        assert lines[1].split() == [str(tmp_path / "one.jpg"), "brick", "0.7500", "0.5000", "v_1"]

    def test_a_picture_that_is_too_large_is_sent_at_the_size_of_the_network(
        self, graft: Graft, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
        spec = PixelSpec(height=5, width=4, offset=0.0, divisor=1.0)
        manifest = tmp_path / "buckets/graft/models/tiles/v_2/graft/light.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"spec": spec.to_dict()}))
        sent = []
        engine.answer = lambda version, instance: (
            sent.append(instance) or answer(version, {**instance, "inputs": {"b64": ""}})
        )
        large, small = tmp_path / "large.png", tmp_path / "small.jpg"
        noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
        Image.fromarray(noise).save(large)
        small.write_bytes(b"small")
        outcome = graft("predict", "tiles", str(large), str(small), "--version", "v_2", "--verbose")
        assert outcome.code == 0
        assert outcome.stderr == (
            f"{large}: 1.5 MB are more than a request of v1 holds; sent as 4 x 5 pixels, the network's own "
            "size (0 kB).\n"
        )
        pictures = [base64.b64decode(instance["inputs"]["b64"]) for instance in sent]
        assert pictures[1] == b"small"
        np.testing.assert_array_equal(decode_picture(pictures[0]), decode_resized(large.read_bytes(), spec))
        quiet = graft("predict", "tiles", str(large), "--version", "v_1")
        assert (quiet.code, quiet.stderr) == (0, "")
        assert base64.b64decode(sent[-1]["inputs"]["b64"]) == large.read_bytes()  # v_1's size is not known

    def test_a_rejected_picture_says_none_of_these(
        self, graft: Graft, engine: Engine, tmp_path: Path
    ) -> None:
        engine.answer = lambda version, instance: {
            "key": instance["key"],
            "label": "",
            "score": 0.0,
            "outputs": [0.0],
        }
        (tmp_path / "one.jpg").write_bytes(b"x")
        lines = graft("predict", "tiles", str(tmp_path / "one.jpg")).stdout.splitlines()
        assert "(none of these)" in lines[1]
        assert "0.0000" in lines[1]

    def test_a_missing_file_is_named_and_costs_no_other_its_answer(
        self, graft: Graft, engine: Engine, tmp_path: Path
    ) -> None:
        (tmp_path / "one.jpg").write_bytes(b"brick")
        files = [str(tmp_path / "none.jpg"), str(tmp_path / "one.jpg")]
        outcome = graft("predict", "tiles", *files, "--json")
        assert outcome.code == 0
        missing, answered = outcome.document
        assert missing == {
            "file": files[0],
            "error": f"{files[0]} cannot be read: No such file or directory",
            "version": "v_1",
        }
        assert (answered["file"], answered["label"]) == (files[1], "brick")
        alone = graft("predict", "tiles", files[0])
        assert alone.code == 1
        assert alone.stderr.splitlines() == [f"{files[0]} cannot be read: No such file or directory"]

    @pytest.mark.parametrize("status", [200, 400])
    def test_a_refused_picture_is_named_and_costs_no_other_its_answer(
        self, graft: Graft, engine: Engine, tmp_path: Path, status: int
    ) -> None:
        def refuse(version: str, instance: dict[str, Any]) -> dict[str, Any]:
            if base64.b64decode(instance["inputs"]["b64"]) == b"bad":
                raise PlatformError("Prediction failed: instance 0: the file is no image", status=status)
            return answer(version, instance)

        engine.answer = refuse
        files = []
        for number, data in enumerate((b"brick", b"bad", b"grass", b"bad", b"stone")):
            files.append(str(tmp_path / f"{number}.jpg"))
            Path(files[-1]).write_bytes(data)
        outcome = graft("predict", "tiles", *files, "--json")
        assert outcome.code == 0
        assert [row.get("label") for row in outcome.document] == ["brick", None, "grass", None, "stone"]
        assert outcome.document[1]["error"] == "the file is no image"
        assert graft("predict", "tiles", files[1], files[3]).code == 1

    def test_an_engine_that_does_not_answer_is_asked_once(
        self, graft: Graft, engine: Engine, tmp_path: Path
    ) -> None:
        def fail(version: str, instance: dict[str, Any]) -> dict[str, Any]:
            raise PlatformError("no answer", status=503)

        engine.answer = fail
        for name in ("a", "b"):
            (tmp_path / name).write_bytes(b"x")
        outcome = graft("predict", "tiles", str(tmp_path / "a"), str(tmp_path / "b"))
        assert (outcome.code, len(engine.calls)) == (1, 1)


class TestEveryClassifier:
    @pytest.fixture(autouse=True)
    def _more(self, engine: Engine) -> None:
        engine.ensure_model("birds")
        engine.create_version("birds", {"name": "v_9"})
        engine.ensure_model("empty")
        engine.ensure_model("tiles__candidate")  # the hidden model of a run
        engine.create_version("tiles__candidate", {"name": "v_3"})

    def test_each_picture_is_asked_of_all_in_one_request(
        self, engine: Engine, graft: Graft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[list[str], int]] = []
        ask = engine.predict_many

        def count(models: list[str], instances: list[Any], **more: Any) -> dict[str, Any]:
            asked.append((models, len(instances)))
            return ask(models, instances, **more)

        monkeypatch.setattr(engine, "predict_many", count)
        for name in ("brick", "grass"):
            (tmp_path / name).write_text(name)
        brick, grass = str(tmp_path / "brick"), str(tmp_path / "grass")
        result = graft("predict", "--all", brick, grass, "--json")
        assert result.code == 0
        rows = json.loads(result.stdout)
        found = [(row["file"], row["classifier"], row["label"], row["version"]) for row in rows]
        assert found == [
            (file, name, label, version)
            for file, label in ((brick, "brick"), (grass, "grass"))
            for name, version in (("birds", "v_9"), ("tiles", "v_1"))
        ]
        assert asked == [(["birds/versions/v_9", "tiles/versions/v_1"], 1)] * 2

    def test_a_large_picture_is_not_shrunk_where_classifiers_read_its_levels_in_two_ways(
        self, engine: Engine, graft: Graft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Shrunk for one with `bits: 12`, it would be 16 times brighter to the other."""
        monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
        sent: list[bytes] = []

        def answer(models: list[str], instances: list[Any], **_: Any) -> dict[str, Any]:
            sent.append(base64.b64decode(instances[0]["inputs"]["b64"]))
            return {model: [{"key": "", "label": "x", "score": 1.0, "outputs": [1.0]}] for model in models}

        monkeypatch.setattr(engine, "predict_many", answer)
        levels = np.random.default_rng(2).integers(0, 2**16, (800, 900), np.uint16)
        Image.fromarray(levels).save(large := tmp_path / "large.png")
        for bits, is_shrunk in ((12, False), (16, True)):
            for model, version, used in (("birds", "v_9", bits), ("tiles", "v_1", 16)):
                spec = PixelSpec(height=4, width=5, offset=float(len(model)), divisor=1.0, bits=used)
                uri = f"gs://graft/models/{model}/{version}/graft/light.json"
                Storage.from_environment().write_json(uri, {"spec": spec.to_dict()})
            assert graft("predict", "--all", str(large)).code == 0
            assert (sent[-1] != large.read_bytes()) is is_shrunk

    def test_an_error_of_one_classifier_is_named_and_costs_no_other_its_answer(
        self, engine: Engine, graft: Graft, tmp_path: Path
    ) -> None:
        def refuse_birds(version: str, instance: dict[str, Any]) -> dict[str, Any]:
            if version == "v_9":
                raise PlatformError("birds/versions/v_9 answered 503: it is being loaded", status=503)
            return answer(version, instance)

        engine.answer = refuse_birds
        (tmp_path / "a").write_text("brick")
        result = graft("predict", "--all", str(tmp_path / "a"), str(tmp_path / "none"), "--json")
        assert result.code == 0
        birds, tiles, unread = json.loads(result.stdout)
        assert (birds["classifier"], "being loaded" in birds["error"]) == ("birds", True)
        assert tiles["label"] == "brick"
        assert "cannot be read" in unread["error"]
        result = graft("predict", "--all", str(tmp_path / "a"))
        assert "tiles" in result.stdout
        assert "birds" in result.stderr

    def test_it_goes_with_no_version_and_needs_a_file(self, graft: Graft) -> None:
        assert graft("predict", "--all", "--version", "v_1", "a").code == 2
        assert graft("predict", "--all").code == 2
        assert graft("predict", "tiles").code == 2
