from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.engine.v1.errors import CODES
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


def test_every_status_is_documented() -> None:
    internal = {"CANCELLED"}  # of an operation, never of a request
    assert [
        code.status
        for code in CODES.values()
        if f"`{code.status}`" not in PAGE and code.status not in internal
    ] == []
