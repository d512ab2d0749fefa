"""The chart of accuracy over versions."""

from __future__ import annotations

import pytest

from pipeline.pages.accuracy_chart import TOP, draw_accuracy
from pipeline.pages.versions import MAX_INTERVALS, VersionRow


def row(number: int, accuracy: float | None, *, serves: bool = False) -> VersionRow:
    return VersionRow(
        version=f"v_{number}",
        state="READY",
        is_default=serves,
        created=f"2026-01-{number:02d}",
        accuracy=accuracy,
        interval=None if accuracy is None else (max(accuracy - 0.05, 0.0), min(accuracy + 0.03, 1.0)),
        run_id=None,
        dataset_version=None,
        decided_by=None,
    )


@pytest.mark.parametrize("accuracies", [[], [0.9], [None, 0.9]])
def test_fewer_than_two_are_no_chart(accuracies: list[float | None]) -> None:
    assert draw_accuracy([row(number, value) for number, value in enumerate(accuracies)], {}) is None


def test_the_oldest_is_left_and_higher_is_better() -> None:
    chart = draw_accuracy([row(2, 0.9, serves=True), row(1, 0.8)], {"v_2": 7})
    assert chart is not None
    old, new = chart.marks
    assert old.x < new.x
    assert old.y > new.y
    assert (old.serves, new.serves) == (False, True)
    assert chart.text.startswith("Accuracy over 2 versions. Oldest: v_1: 80.0 %, 75.0 % to 83.0 %.")
    assert new.text == "v7: 90.0 %, 85.0 % to 93.0 %"


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.5, 0.5), (1.0, 1.0), (0.0, 0.0), (0.971, 0.973)])
def test_intervals_lie_between_round_levels_within_0_and_1(values: tuple[float, float]) -> None:
    chart = draw_accuracy([row(number, value) for number, value in enumerate(values)], {})
    assert chart is not None
    assert 2 <= len(chart.ticks) <= 8
    texts = [int(tick.text.removesuffix(" %")) for tick in chart.ticks]
    assert texts == sorted(texts)
    assert 0 <= texts[0] < texts[-1] <= 100
    for mark in chart.marks:
        assert mark.high is not None
        assert mark.low is not None
        assert TOP <= mark.high <= mark.y <= mark.low <= chart.ticks[0].y


def test_only_the_newest_are_drawn() -> None:
    chart = draw_accuracy([row(number, 0.9) for number in range(100, 0, -1)], {})
    assert chart is not None
    assert len(chart.marks) == MAX_INTERVALS
    assert chart.marks[-1].text.startswith("v_100:")
