from __future__ import annotations

import pytest

from pipeline.artifacts.metrics import Metrics
from pipeline.report.plain import describe_plainly


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        ({"ant": {"ant": 5}, "bee": {"bee": 4, "ant": 0}}, "All 9 test pictures right."),
        (
            {"ant": {"ant": 9, "bee": 1}, "bee": {"bee": 4, "ant": 2}},
            "13 of 16 test pictures right. Weakest class: bee, 4 of 6 right.",
        ),
        (
            {"ant": {"bee": 3}, "bee": {"bee": 2}, "cat": {}},
            "2 of 5 test pictures right. Weakest class: ant, 0 of 3 right.",
        ),
        ({}, "There was no test picture."),
    ],
)
def test_a_sentence_says_how_many_were_right_and_where_it_is_weakest(
    confusion: dict[str, dict[str, int]], expected: str
) -> None:
    metrics = Metrics(accuracy=0, accuracy_ci95=(0, 1), loss=0, test_pictures=0, confusion=confusion)
    assert describe_plainly(metrics) == expected
