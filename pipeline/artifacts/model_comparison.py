"""A model comparison: what cross-validation on training pictures says of several options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.artifacts.estimate import Estimate as Estimate, Setting as Setting
from pipeline.artifacts.record import Record
from pipeline.types import JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidated(Record):
    """How heads of one option do on training pictures that were left out; no test picture is among them.

    Args:
        accuracy: Share of pictures whose most probable class is their label.
        log_loss: Mean negative log-likelihood of the labels.
        ece: Expected calibration error.
        behind: How much larger the log loss is than the least of all options; its error is of this paired
            difference.
    """

    accuracy: Estimate
    log_loss: Estimate
    ece: Estimate
    behind: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedOption(Record):
    """One option.

    Args:
        name: Backbone, head and what else differs.
        parameters: What differs from the classifier's YAML, by dotted keys; nothing for the present model.
        cross_validated: How it does.
        cpu_ms: CPU time of one picture, of many: network and head, without decoding it.
        latency_ms: Median time of one picture alone; likewise.
        model_bytes: Network and head.
        fit_cpu_seconds: CPU time of one training of the head, on cached features.
        job: The job that cross-validated it.
    """

    name: str
    parameters: dict[str, Setting]
    cross_validated: CrossValidated
    cpu_ms: float
    latency_ms: float
    model_bytes: int
    fit_cpu_seconds: float
    job: str

    @property
    def is_present(self) -> bool:
        """Whether it is the model that the YAML has now."""
        return not self.parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComparison(Record):
    """The result of a comparison.

    Args:
        classifier: Name of the classifier.
        dataset_version: Whose training pictures judged.
        created_at: When, UTC.
        pictures: Training pictures that were left out once.
        folds: Parts that they were left out in.
        options: What was compared, the least log loss first.
        chosen: Name of the recommended option.
        recommendation: Why, in one sentence.
        optimism: By how much the least log loss is too good, being the least of several.
        model: The `model` section of the present model, its paths absolute; older records have none.
    """

    FORMAT: ClassVar[int | None] = 1

    classifier: str
    dataset_version: str
    created_at: str
    pictures: int
    folds: int
    options: tuple[ComparedOption, ...]
    chosen: str
    recommendation: str
    optimism: float
    model: JsonDict = field(default_factory=dict)

    @property
    def choice(self) -> ComparedOption:
        """The recommended option."""
        return next(option for option in self.options if option.name == self.chosen)

    @property
    def caution(self) -> str:
        """What the figures are not."""
        text = (
            f"All figures are cross-validated on {self.pictures} training pictures, and chose among "
            f"{len(self.options)} options"
        )
        if len(self.options) > 1:
            text += f", so the least log loss is too good by about {self.optimism:.4f}"
        return f"{text}. They are not the accuracy on test pictures, which only a run measures."
