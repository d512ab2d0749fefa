"""On which pictures two models are compared, and what is said of labels that changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.artifacts.evaluation import SharedClasses
from pipeline.evaluate.answers import Answers
from pipeline.evaluate.bootstrap import difference_intervals
from pipeline.evaluate.measure import measure
from pipeline.evaluate.pairing import (
    compare_answers,
    compare_shared,
    describe_relabelled,
    measure_differences,
)
from tests.fakes import dataset

CLASSES = ("cat", "dog", "emu")
TRUTH = "cat dog emu cat dog emu cat dog"
RIGHT_BUT_LAST = "cat dog emu cat dog emu cat emu"
FIRST_WRONG = "dog dog emu cat cat emu cat dog"


def answered(
    predicted: str, truth: str = TRUTH, groups: Sequence[int] = (), classes: tuple[str, ...] = CLASSES
) -> Answers:
    """Answers for the pictures p0, p1, ..., each with a probability of 0.8."""
    labels, found = ([classes.index(name) for name in text.split()] for text in (truth, predicted))
    probabilities = np.full((len(labels), len(classes)), 0.2 / (len(classes) - 1))
    probabilities[range(len(labels)), found] = 0.8
    return Answers(
        keys=tuple(f"p{number}" for number in range(len(labels))),
        classes=classes,
        truth=np.array(labels),
        probabilities=probabilities,
        predicted=np.array(found),
        groups=np.array(groups or range(len(labels))),
    )


def shared(
    classes: Sequence[str], trained_on: set[str] | frozenset[str] = frozenset()
) -> SharedClasses | None:
    rows = [dataset.row(f"p{number}", label) for number, label in enumerate(TRUTH.split())]
    return compare_shared(
        answered(RIGHT_BUT_LAST),
        answered(FIRST_WRONG),
        classes=classes,
        trained_on=trained_on,
        rows=rows,
        slices=[],
    )


class TestCompareAnswers:
    def test_counts_gained_lost_and_changed_by_class_and_group(self) -> None:
        groups = [0, 1, 2, 3, 0, 4, 5, 6]  # two gained pictures are copies
        found = compare_answers(answered(RIGHT_BUT_LAST, groups=groups), answered(FIRST_WRONG))
        assert (found.gained, found.lost, found.changed) == (("p0", "p4"), ("p7",), 3)
        assert list(found.classes) == list(CLASSES)
        dog = found.classes["dog"]
        assert (dog.pictures, dog.gained, dog.lost) == (3, 1, 1)
        alone = compare_answers(answered(RIGHT_BUT_LAST), answered(FIRST_WRONG))
        assert found.design_effect != alone.design_effect


def test_differences_are_candidate_minus_other_with_their_interval() -> None:
    one, other = answered(RIGHT_BUT_LAST), answered(FIRST_WRONG)
    measured, other_measured = measure(one), measure(other)
    found = measure_differences(one, other, measured, other_measured)
    intervals = difference_intervals(one, other)
    assert {"accuracy", "loss", "macro_f1"} <= set(found)
    for name, difference in found.items():
        values = [each.value_of(name) for each in (measured, other_measured)]
        assert None not in values
        assert difference.value == pytest.approx(values[0] - values[1])  # type: ignore[operator]
        assert difference.ci95 == intervals.get(name)
    undefined = {name for name, value in measured.scores.items() if value is None}
    assert not undefined & set(found)


def test_a_metric_that_either_lacks_has_no_difference() -> None:
    one = answered("cat dog emu", "cat dog emu")
    measured = measure(one)
    lacking = measure(answered("cat cat cat", "cat cat cat"))
    names = {name for name, value in lacking.scores.items() if value is None}
    assert names
    for pair in ((measured, lacking), (lacking, measured)):
        assert not names & set(measure_differences(one, one, *pair))


class TestCompareShared:
    def test_is_none_where_every_picture_can_be_compared(self) -> None:
        assert shared(CLASSES) is None

    def test_leaves_out_other_classes_and_pictures_that_the_champion_trained_on(self) -> None:
        found = shared(("cat", "dog"), {"p0", "p2", "p99"})
        assert found is not None
        assert (found.classes, found.pictures, found.trained_on) == (("cat", "dog"), 5, 2)
        assert found.comparison is not None
        assert (found.comparison.pictures, found.comparison.gained, found.comparison.lost) == (
            5,
            ("p4",),
            ("p7",),
        )
        assert found.comparison.differences["accuracy"].value == 0
        assert found.candidate is not None
        assert found.champion is not None
        assert (found.candidate.accuracy, found.champion.accuracy) == (0.8, 0.8)
        assert (found.candidate.per_class, found.champion.per_class) == ({}, {})
        assert {label: part.pictures for label, part in found.slices["label"].items()} == {"cat": 2, "dog": 3}

    def test_of_every_class_leaves_out_pictures_that_the_champion_trained_on(self) -> None:
        found = shared(CLASSES, {"p7"})
        assert found is not None
        assert (found.pictures, found.trained_on) == (7, 1)
        assert found.comparison is not None
        assert (found.comparison.gained, found.comparison.lost) == (("p0", "p4"), ())
        assert found.comparison.differences["accuracy"].value == pytest.approx(2 / 7)
        assert found.candidate is not None
        assert found.champion is not None
        assert (found.candidate.accuracy, found.champion.accuracy) == (1, pytest.approx(5 / 7))

    def test_of_no_picture_says_so(self) -> None:
        assert shared((), {"p1"}) == SharedClasses(
            classes=(), pictures=0, candidate=None, champion=None, trained_on=1
        )
        assert shared(["emu"], {"p2", "p5"}) == SharedClasses(
            classes=("emu",), pictures=0, candidate=None, champion=None, trained_on=2
        )


class TestDescribeRelabelled:
    CHAMPION = answered("cat cat dog dog", "cat dog dog dog", classes=("cat", "dog"))
    NOW = {"p0": "cat", "p1": "dog", "p2": "dog", "p3": "dog"}

    def test_says_nothing_where_no_label_changed(self) -> None:
        assert describe_relabelled(self.CHAMPION, self.NOW, {**self.NOW, "p9": "cat"}) == ""
        assert describe_relabelled(self.CHAMPION, self.NOW, {}) == ""

    @pytest.mark.parametrize(
        ("before", "named", "by"),
        [
            ({"p1": "cat"}, "1 test pictures changed their label since (p1)", "-0.2500"),
            ({"p2": "cat"}, "1 test pictures changed their label since (p2)", "+0.2500"),
            ({"p1": "cat", "p2": "cat"}, "2 test pictures changed their label since (p1, p2)", "+0.0000"),
            (
                {"p0": "dog", "p1": "dog", "p2": "cat", "p3": "cat"},
                "3 test pictures changed their label since (p0, p2, p3)",
                "+0.7500",
            ),
            (
                {"p0": "dog", "p1": "cat", "p2": "cat", "p3": "emu"},
                "4 test pictures changed their label since (p0, p1, p2, ...)",
                "+0.5000",
            ),
        ],
    )
    def test_names_up_to_three_and_what_that_did_to_the_accuracy(
        self, before: dict[str, str], named: str, by: str
    ) -> None:
        found = describe_relabelled(self.CHAMPION, self.NOW, before)
        assert found == f"{named}, which changed its accuracy by {by}"
