"""Which of the categories that a picture shows becomes its label."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pipeline.config.sources import LabelFrom

EXAMPLES = 3
_TAKEN = {
    "largest": "that which covers most was taken",
    "most": "that with most boxes was taken",
    "only": "they are unlabelled, as `label_from: only` says",
}


@dataclass(slots=True, kw_only=True)
class Boxes:
    """The boxes of a picture.

    Args:
        areas: Pixels of each category.
        numbers: Boxes of each category.
    """

    areas: Counter[str] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)

    def add(self, label: str, area: int) -> None:
        """Add a box."""
        self.areas[label] += area
        self.numbers[label] += 1

    def choose(self, label_from: LabelFrom) -> str:
        """Return the category that is the picture's; empty if there is none, or several are alike."""
        ranks = self.numbers if label_from == "most" else self.areas
        best = [label for label, rank in ranks.items() if rank == max(ranks.values())]
        is_clear = len(ranks if label_from == "only" else best) == 1
        return best[0] if is_clear else ""


@dataclass(slots=True, kw_only=True)
class Choices:
    """The labels of pictures with boxes, and what is to be said about them.

    Args:
        label_from: Which category becomes the label.
        several: Pictures that show several categories and got a label, or none by `only`.
        alike: Pictures that show several categories of which none stands out; they have no label.
    """

    label_from: LabelFrom = "largest"
    several: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)

    def choose(self, name: str, boxes: Boxes) -> str:
        """Return a picture's label, and note a choice between several."""
        label = boxes.choose(self.label_from)
        if len(boxes.areas) > 1:
            (self.several if label or self.label_from == "only" else self.alike).append(name)
        return label

    @property
    def statements(self) -> list[str]:
        """What a reader of the dataset card should know."""
        return [
            f"annotations: {len(names)} pictures show several categories{text}, such as "
            f"{', '.join(names[:EXAMPLES])}"
            for names, text in (
                (self.several, f": {_TAKEN[self.label_from]}"),
                (self.alike, ", none more than another: they are unlabelled"),
            )
            if names
        ]
