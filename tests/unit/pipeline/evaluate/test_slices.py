from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.evaluate.slices import MAX_VALUES, OTHER, check_columns, slice_pictures, slice_value
from tests.fakes.dataset import row as make_row


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        ({"source_url": "https://example.org/a/b.jpg"}, "source", "example.org"),
        ({"source_url": "https:///b.jpg"}, "source", "(none)"),
        ({"source_url": "/pictures/cat/1.jpg"}, "source", "/pictures/cat"),
        ({"source_url": "gs://demo/a/1.jpg"}, "source", "gs://demo/a"),
        ({"source_url": "file.npz#3"}, "source", "file.npz#3"),
        ({}, "source", "(none)"),
        ({"width": 64, "height": 10}, "size", "up to 64"),
        ({"width": 64, "height": 65}, "size", "65 to 256"),
        ({"width": 1024, "height": 1}, "size", "257 to 1024"),
        ({"width": 1025, "height": 1}, "size", "over 1024"),
        ({}, "size", "(none)"),
        ({"license": None}, "license", "(none)"),
        ({"license": "cc0"}, "license", "cc0"),
        ({"width": 30}, "width", "30"),
    ],
)
def test_picture_belongs_to_one_slice(row: dict[str, Any], column: str, expected: str) -> None:
    assert slice_value(make_row("p", **row), column) == expected


def test_rare_values_are_put_together() -> None:
    creators = ["many", "many", *(f"c{number}" for number in range(MAX_VALUES + 9))]
    rows = [make_row("p", creator=creator) for creator in creators]
    found = slice_pictures(rows, "creator")
    assert found["many"] == [0, 1]
    assert len(found) == MAX_VALUES + 1
    assert sum(map(len, found.values())) == len(rows)
    assert len(found[OTHER]) == 10


def test_unknown_column_is_named_with_the_known_ones() -> None:
    check_columns(["label", "size", "license", "source"])
    with pytest.raises(ConfigError, match=r"no column `camera`; known: label, source, size, blob"):
        check_columns(["camera"])
