from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from pipeline.artifacts.metrics import CoveragePoint, ReliabilityBin
from pipeline.report import charts
from pipeline.report.plot import fit_range, fit_shares, ticks

HISTORY = {"loss": [1.0, 0.5, 0.25], "val_loss": [1.1, 0.6, 0.7]}
CURVES = {f"class {number}": [(0.0, 1.0), (1.0, 0.5)] for number in range(10)}


def texts(svg: str) -> list[str]:
    """Return what the drawing says; it must be XML by itself."""
    return [
        element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]


def reliability_bin(confidence: float, accuracy: float, pictures: int) -> ReliabilityBin:
    return ReliabilityBin(low=0.0, high=1.0, pictures=pictures, confidence=confidence, accuracy=accuracy)


def test_axes_and_lines_are_named() -> None:
    assert {"epoch", "loss", "training", "validation", "kept"} <= set(
        texts(charts.learning_curve(HISTORY, "loss", 2))
    )
    assert "kept" not in texts(charts.learning_curve(HISTORY, "loss", None))
    said = texts(charts.reliability([reliability_bin(0.9, 0.8, 5)], [reliability_bin(0.99, 0.8, 5)]))
    assert {"as sure as right", "without the temperature", "pictures (area: how many)"} <= set(said)


def test_each_drawing_has_a_title_above_its_axes() -> None:
    drawings = [
        charts.learning_curve(HISTORY, "loss", 2),
        charts.reliability([reliability_bin(0.9, 0.8, 5)]),
        charts.coverage([CoveragePoint(threshold=0, coverage=1, accuracy=1)]),
        charts.class_curves(CURVES, title="Precision and recall of each class", x="recall", y="precision"),
    ]
    titles = [re.findall(r'<text [^>]*font-weight="bold"[^>]*>([^<]+)<', svg) for svg in drawings]
    assert titles == [
        ["Loss by epoch"],
        ["How sure, and how often right"],
        ["Accuracy of the surest answers"],
        ["Precision and recall of each class"],
    ]


def test_no_axis_of_shares_goes_beyond_0_and_1() -> None:
    history = {"accuracy": [1.0, 1.0], "val_accuracy": [0.0, 1.0]}
    perfect = [CoveragePoint(threshold=0, coverage=share, accuracy=1.0) for share in (0.5, 1.0)]
    for svg in (
        charts.learning_curve({"accuracy": [1.0, 1.0]}, "accuracy", None),
        charts.learning_curve(history, "accuracy", None),
        charts.coverage(perfect),
        charts.reliability([reliability_bin(1.0, 1.0, 5)]),
        charts.class_curves(CURVES, title="t", x="recall", y="precision"),
    ):
        left = re.findall(r'text-anchor="end"[^>]*>([-\d.]+)<', svg)
        assert left
        assert all(0 <= float(tick) <= 1 for tick in left), left
    for values in ([1.0], [0.0], [0.0, 1.0], [0.2, 0.9], []):
        low, high = fit_shares(values)
        assert 0 <= low < high <= 1
    svg = charts.coverage(perfect)
    top = min(float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', svg))
    assert top == min(float(y) for y in re.findall(r'd="M46 (\d+)V', svg))  # 1 is the top of the axis


def test_points_lie_where_the_axes_say() -> None:
    pairs = [(0.4, 0.8), (1.0, 0.7)]
    svg = charts.coverage([CoveragePoint(threshold=0, coverage=x, accuracy=y) for x, y in pairs])
    circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)"[^>]*>([\d.]+)<', svg)
    across = {text: float(left) for left, _, anchor, text in places if anchor == "middle"}
    up = {text: float(height) - 3.5 for _, height, anchor, text in places if anchor == "end"}
    assert [float(left) for left, _ in circles] == pytest.approx([across["0.4"], across["1"]], abs=0.11)
    assert [float(height) for _, height in circles] == pytest.approx([up["0.8"], up["0.7"]], abs=0.11)


def test_each_class_has_a_line_that_differs_by_more_than_its_colour() -> None:
    svg = charts.class_curves(CURVES, title="t", x="recall", y="precision")
    assert set(CURVES) <= set(texts(svg))
    styles = re.findall(r'stroke="var\(--series-(\d)\)"[^>]*?(?:stroke-dasharray="([^"]*)")?/>', svg)
    assert len(set(styles)) == 8  # the colours of the page
    assert len({dash for _, dash in styles}) == 4


def test_labels_are_text_and_long_ones_are_cut() -> None:
    curves = {"<b>&": [(0, 0)], "x" * 30: [(0, 0)]}
    said = texts(charts.class_curves(curves, title="t", x="recall", y="precision"))
    assert "<b>&" in said
    assert f"{'x' * 23}…" in said


def test_no_colour_is_fixed() -> None:
    svg = charts.class_curves(CURVES, title="t", x="recall", y="precision") + charts.learning_curve(
        HISTORY, "loss", 1
    )
    assert set(re.findall(r'(?:stroke|fill)="([^"]*)"', svg)) <= {
        *("currentColor", "none"),
        *(f"var(--series-{number})" for number in range(1, 9)),
    }


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1.02, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 20.5, [0, 5, 10, 15, 20]),
        (0.93, 1.0, [0.94, 0.96, 0.98, 1.0]),
        (-0.05, 0.05, [-0.04, -0.02, 0, 0.02, 0.04]),
    ],
)
def test_ticks_are_round_numbers_in_the_range(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[], [0.0], [1.0, 1.0], [float("nan"), 2.0], [-3.0, 4.0]])
def test_a_range_holds_its_values_and_is_never_empty(values: list[float]) -> None:
    low, high = fit_range(values)
    assert low < high
    assert all(low <= value <= high for value in values if value == value)


def test_a_report_imports_no_plotting_library() -> None:
    code = "import sys, pipeline.report.build, pipeline.report.content as c; c.charts.coverage([]); "
    code += "print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
