"""The test pictures that models are asked about."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.artifacts.manifest import ManifestRow
from pipeline.evaluate.predictions import Prediction, join_predictions, read_predictions
from pipeline.storage import Storage

if TYPE_CHECKING:
    from pipeline.evaluate.answers import Answers


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """The test pictures of a dataset version.

    Args:
        rows: Their manifest rows, by id.
        classes: The dataset's labels.
    """

    __test__ = False

    rows: Mapping[str, ManifestRow]
    classes: tuple[str, ...]

    def ask(
        self,
        storage: Storage,
        output_path: str,
        model_classes: Sequence[str],
        names: Mapping[str, str] | None = None,
    ) -> Answers:
        """Return a model's answers for the pictures, from a batch prediction job; see `join`.

        Raises:
            EvaluationError: if its predictions are not exactly one for each picture.
            LabelMapMismatch: if its labels are not `model_classes`.
        """
        return self.join(read_predictions(storage, output_path), model_classes, names)

    def select(self, keys: Collection[str], classes: Collection[str]) -> TestSet:
        """Return the pictures with one of the ids and one of the labels."""
        rows = {key: row for key, row in self.rows.items() if key in keys and row.label in classes}
        return TestSet(rows=rows, classes=self.classes)

    def join(
        self,
        predictions: Sequence[Prediction],
        model_classes: Sequence[str],
        names: Mapping[str, str] | None = None,
        *,
        allow_more: bool = False,
    ) -> Answers:
        """Return a model's answers for the pictures.

        Args:
            predictions: Its predictions.
            model_classes: Its classes.
            names: What the dataset calls those that it calls otherwise.
            allow_more: Whether there may be predictions of other pictures, too.

        Raises:
            EvaluationError: if the predictions are not exactly one for each picture.
            LabelMapMismatch: if its labels are not `model_classes`.
        """
        from pipeline.evaluate.answers import collect_answers

        labels = {key: row.label for key, row in self.rows.items()}
        if allow_more:
            predictions = [each for each in predictions if each.key in labels]
        joined = join_predictions(predictions, labels)
        groups = {key: row.group or key for key, row in self.rows.items()}
        return collect_answers(
            joined, labels, model_classes=model_classes, classes=self.classes, groups=groups, names=names
        )
