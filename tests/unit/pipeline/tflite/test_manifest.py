from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artifacts.model_files import NOVELTY, TFLITE_MANIFEST
from pipeline.errors import TFLiteUnavailable
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.manifest import FILES, Parity, TFLiteManifest, check_tflite, digest_files


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "graft").mkdir()
    for name in FILES:
        (tmp_path / name).write_text(name)
    TFLiteManifest(
        files=digest_files(tmp_path),
        spec=PixelSpec(height=4, width=4, offset=0, divisor=1),
        reject_below=0.5,
        parity=Parity(pictures=2, largest_difference=1e-6),
        made_by={"graft": "0"},
    ).write(tmp_path)
    return tmp_path


def test_what_was_written_is_read(model: Path) -> None:
    manifest = check_tflite(model)
    assert manifest.spec == PixelSpec(height=4, width=4, offset=0, divisor=1)
    assert manifest.reject_below == 0.5
    assert manifest.is_equal


def test_the_novelty_is_checked_like_the_other_files(model: Path) -> None:
    manifest = check_tflite(model)
    (model / NOVELTY).write_text("novelty")
    with pytest.raises(TFLiteUnavailable, match="graft/novelty.npz is not the file that was compared"):
        check_tflite(model)
    replace(manifest, files=digest_files(model), reject_unlike=0.95).write(model)
    assert check_tflite(model).reject_unlike == 0.95
    (model / NOVELTY).unlink()
    with pytest.raises(TFLiteUnavailable, match="graft/novelty.npz is not the file that was compared"):
        check_tflite(model)


def test_a_manifest_of_before_there_was_a_novelty_is_read(model: Path) -> None:
    value = json.loads((model / TFLITE_MANIFEST).read_text())
    del value["reject_unlike"]
    (model / TFLITE_MANIFEST).write_text(json.dumps(value))
    assert check_tflite(model).reject_unlike == 0


def test_thresholds_are_in_the_file_only_where_there_are_some(model: Path) -> None:
    assert "thresholds" not in json.loads((model / TFLITE_MANIFEST).read_text())
    replace(check_tflite(model), thresholds={"cat": 0.8}).write(model)
    assert check_tflite(model).thresholds == {"cat": 0.8}


@pytest.mark.parametrize("name", FILES)
def test_a_changed_or_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).write_text("other")
    with pytest.raises(TFLiteUnavailable, match=f"{name} is not the file that was compared"):
        check_tflite(model)
    (model / name).unlink()
    with pytest.raises(TFLiteUnavailable, match=f"{name} cannot be read"):
        check_tflite(model)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "has the format 2; this engine reads 1"),
        ({"parity": {"pictures": 2, "largest_difference": 0.2}}, "differ from TensorFlow's by more than"),
        (
            {"parity": {"pictures": 2, "largest_difference": float("nan")}},
            "differ from TensorFlow's by more than",
        ),
        ({"parity": {}}, "light.json cannot be read"),
        ({"spec": {"height": 4}}, "light.json cannot be read"),
        ({"surprise": 1}, "light.json cannot be read"),
    ],
)
def test_a_manifest_that_promises_nothing_is_refused(model: Path, change: dict, reason: str) -> None:
    value = json.loads((model / TFLITE_MANIFEST).read_text())
    (model / TFLITE_MANIFEST).write_text(json.dumps({**value, **change}))
    with pytest.raises(TFLiteUnavailable, match=reason):
        check_tflite(model)


def test_a_model_without_a_manifest_is_not_light(tmp_path: Path) -> None:
    with pytest.raises(TFLiteUnavailable, match=r"it has no graft/light.json"):
        check_tflite(tmp_path)
