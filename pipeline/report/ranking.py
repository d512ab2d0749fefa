"""Which pictures are worth looking at: worst answers, confused pairs, right and wrong of each class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.inputs import PredictionRow, ReportInputs

EPSILON = 1e-7  # the loss is clipped where the evaluation clips it


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The candidate's answer for one test picture.

    Args:
        key: Its id.
        label: Its class.
        predicted: The most probable class.
        score: Probability of that.
        loss: Negative log-likelihood of the label.
        row: The answer as batch prediction wrote it.
    """

    key: str
    label: str
    predicted: str
    score: float
    loss: float
    row: PredictionRow

    @property
    def is_right(self) -> bool:
        """Whether the most probable class is the label."""
        return self.predicted == self.label


def rank_answers(inputs: ReportInputs) -> list[Answer]:
    """Return every answer, the largest loss first: confident and wrong before all others."""
    classes = inputs.training.classes
    answers = []
    position = {label: index for index, label in enumerate(classes)}
    for key, row in inputs.predictions.items():
        if key not in inputs.rows or inputs.rows[key].label not in position:
            continue
        best = max(range(len(row.outputs)), key=row.outputs.__getitem__)
        own = row.outputs[position[inputs.rows[key].label]] / math.fsum(row.outputs)
        answers.append(
            Answer(
                key=key,
                label=inputs.rows[key].label,
                predicted=classes[best],
                score=row.outputs[best],
                loss=-math.log(min(max(own, EPSILON), 1 - EPSILON)),
                row=row,
            )
        )
    return sorted(answers, key=lambda answer: (-answer.loss, answer.key))


def confused_pairs(answers: Sequence[Answer], number: int) -> list[tuple[str, str, list[Answer]]]:
    """Return the most frequent (label, taken for) pairs with their pictures, the worst first."""
    wrong = [answer for answer in answers if not answer.is_right]
    counts = Counter((answer.label, answer.predicted) for answer in wrong)
    return [
        (*pair, [answer for answer in wrong if (answer.label, answer.predicted) == pair])
        for pair, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:number]
    ]


def examples_by_class(
    answers: Sequence[Answer], classes: Sequence[str], each: int
) -> dict[str, tuple[list[Answer], list[Answer]]]:
    """Return for each class its surest right answers and its worst wrong ones."""
    examples = {}
    for label in classes:
        mine = [answer for answer in answers if answer.label == label]
        right = [answer for answer in reversed(mine) if answer.is_right][:each]
        wrong = [answer for answer in mine if not answer.is_right][:each]
        examples[label] = (right, wrong)
    return examples
