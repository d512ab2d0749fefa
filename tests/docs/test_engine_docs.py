from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic.alias_generators import to_camel, to_snake

from pipeline.backbones.table import find_backbone
from pipeline.engine.api.routes.unimplemented import MISSING, reason_of
from pipeline.engine.serving.artifacts import RUNTIMES
from pipeline.engine.serving.limits import TENSORFLOW, TFLITE
from pipeline.engine.v1.errors import CODES
from pipeline.engine.v1.fields import Wire
from pipeline.engine.v1.resources import (
    JobBody,
    ModelBody,
    PredictionInput,
    Scheduling,
    TrainingInput,
    VersionBody,
    VersionPatch,
)
from pipeline.pixels.host import decode_resized
from tests.contract.discovery import METHODS, SCHEMAS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "engine.md").read_text()
FIELDS = PAGE.split("## Fields")[1].split("\n## ")[0]
RESOURCES = "Job TrainingInput Scheduling PredictionInput Model Version OperationMetadata".split()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_of_v1_is_in_the_table(name: str) -> None:
    resource, _, verb = name.removeprefix("ml.").rpartition(".")
    rows = [row for row in PAGE.splitlines() if row.startswith(f"| `{resource}.")]
    assert any(f"`{resource}.{verb}`" in row or f"`{verb}`" in row for row in rows)


@pytest.mark.parametrize("name", RESOURCES)
def test_every_field_of_v1_is_in_the_tables(name: str) -> None:
    table = FIELDS.split(f"| `{name}` |")[1].split("\n\n")[0]
    missing = [
        field for field in SCHEMAS[f"GoogleCloudMlV1__{name}"]["properties"] if f"`{field}`" not in table
    ]
    assert missing == []


WIRE = {
    "Job": JobBody,
    "TrainingInput": TrainingInput,
    "Scheduling": Scheduling,
    "PredictionInput": PredictionInput,
    "Model": ModelBody,
    "Version": VersionBody,
}


def row_of(name: str, field: str) -> str:
    """The cell that says what becomes of a field."""
    table = FIELDS.split(f"| `{name}` |")[1].split("\n\n")[0]
    (row,) = (row for row in table.splitlines()[1:] if f"`{field}`" in row.split(" | ")[0])
    return row.split(" | ", 1)[1]


@pytest.mark.parametrize(("name", "wire"), WIRE.items())
def test_the_tables_say_what_the_code_does(name: str, wire: type[Wire]) -> None:
    for field in SCHEMAS[f"GoogleCloudMlV1__{name}"]["properties"]:
        cell, snake = row_of(name, field), to_snake(field)
        if snake in wire.unsupported:
            assert cell.startswith(f"501: {wire.unsupported[snake]}"), field
        elif snake in wire.output_only and snake not in VersionPatch.model_fields:
            assert cell.startswith("output"), field
        else:
            assert snake in wire.model_fields, field
            assert not cell.startswith(("501", "output")), field


@pytest.mark.parametrize(("name", "wire"), WIRE.items())
def test_each_value_that_is_501_is_in_the_tables_with_a_reason(name: str, wire: type[Wire]) -> None:
    for field, values in wire.unsupported_values.items():
        cell = row_of(name, to_camel(field))
        assert [value for value in values if f"`{value}`" not in cell] == []
        assert all(f"501: {reason}" in cell for reason in values.values())


def test_every_method_that_is_501_is_marked_so_with_a_reason_and_no_other_is() -> None:
    table = PAGE.split("## Methods")[1].split("\n\n**Lists**")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines() if row.startswith("| `")]
    marked = {row[0] for row in rows if row[1] == "501"}
    assert all(len(row) == 3 and row[2].strip(" |") for row in rows if row[1] == "501")
    assert {row[1] for row in rows} == {"yes", "501", "our addition"}
    for name in MISSING:
        resource, _, verb = name.partition(" ")[0].rpartition(".")
        in_full = (f"`{resource}.{verb}", f"`POST /{verb}`")
        shortened = (f"`{resource}.", f"`{verb}`")
        assert any(
            any(text in cell for text in in_full) or all(text in cell for text in shortened)
            for cell in marked
        ), name
    notes = "\n".join(row[2] for row in rows if row[1] == "501")
    assert [name for name in MISSING if reason_of(name) not in notes] == []
    missing = {name.partition(" ")[0] for name in MISSING}
    for cell in marked:
        for name in re.findall(r"`(projects\.[\w.]+)`", cell):
            assert any(name.startswith(each) for each in missing), name


def test_every_format_of_a_version_is_documented() -> None:
    section = PAGE.split("## What runs a version")[1].split("\n## ")[0]
    runtimes = {TENSORFLOW, TFLITE, *RUNTIMES.values()}
    assert [name for name in runtimes if f"| `{name}` |" not in section] == []
    assert [suffix for suffix in RUNTIMES if f"`*{suffix}`" not in section] == []


def test_the_snippet_for_large_pictures_makes_the_pixels_of_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    levels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(levels).save(tmp_path / "photo.jpg", exif=exif)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(PAGE.split("### Large pictures")[1].split("```python\n")[1].split("```")[0], names)
    sent = base64.b64decode(names["instance"]["inputs"]["b64"])
    spec = find_backbone("efficientnet_lite0").spec
    assert (names["HEIGHT"], names["WIDTH"]) == (spec.height, spec.width)
    expected = decode_resized((tmp_path / "photo.jpg").read_bytes(), spec)
    np.testing.assert_array_equal(decode_resized(sent, spec), expected)
    other = find_backbone("inception_v3").spec
    assert f"{other.width}, {other.height} of inception_v3" in PAGE


def test_every_status_is_documented() -> None:
    internal = {"CANCELLED"}  # of an operation, never of a request
    assert [
        code.status
        for code in CODES.values()
        if f"`{code.status}`" not in PAGE and code.status not in internal
    ] == []
