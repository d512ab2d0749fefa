"""What a `.keras` file's configuration may name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.keras_archive import RefusedLayer, check_layers, keras_version

DENSE = {"class_name": "Dense", "module": "keras.layers", "registered_name": None, "config": {"units": 3}}


def write(path: Path, *layers: Any) -> Path:
    model = {
        "class_name": "Functional",
        "module": "keras.src.models.functional",
        "config": {"layers": layers},
    }
    with zipfile.ZipFile(path / "m.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({**model, "registered_name": "Functional"}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.0"}))
    return path / "m.keras"


def test_layers_of_keras_pass(tmp_path: Path) -> None:
    path = write(tmp_path, DENSE)
    check_layers(path)
    assert keras_version(path) == "3.9.0"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({**DENSE, "class_name": "Lambda"}, "Lambda runs a program"),
        ({**DENSE, "module": "os"}, "Dense is of os"),
        ({**DENSE, "registered_name": "mine>Doubling"}, "mine>Doubling is a custom class"),
        ({**DENSE, "class_name": "Own", "module": None, "registered_name": "Own"}, "Own is a custom class"),
        ({**DENSE, "config": {"vocabulary": "/etc/passwd"}}, "vocabulary is the file"),
    ],
)
def test_other_peoples_code_is_refused_by_name(tmp_path: Path, layer: Any, message: str) -> None:
    with pytest.raises(RefusedLayer, match=message):
        check_layers(write(tmp_path, DENSE, {"nested": [layer]}))
