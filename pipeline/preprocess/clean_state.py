"""A dataset version in the making, which the steps of `clean` hand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.artifacts.fetch_index import TRAIN_ONLY, FetchedRow
from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.split_registry import SplitAssignment
from pipeline.artifacts.takedowns import Takedown, read_takedowns
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.preprocess.dedup.grouping import Grouping
from pipeline.preprocess.split import TEST, TRAIN


@dataclass(slots=True, kw_only=True)
class CleanState:
    """A dataset version in the making; each step reads it and leaves its result in it.

    Args:
        workspace: Where blobs, indexes and versions are.
        classifier: How to split, and the classes if it lists them.
        fetched: The fetched pictures, in source order.
        has_given_split: True if a source brings its own test set.
        classes: The label of class 0, of class 1, and so on.
        warnings: What a reader of the card should know.
        rows: The version's rows so far.
        decoded: Pictures that were decoded.
        moved: The fingerprint of each picture whose id changed with `dataset.bits`, by its old id.
        registry: Assignments of earlier versions as they are stored.
        assigned: Those of them that the split keeps to; all but the pictures that were taken down.
        grouping: Groups of near duplicates.
        takedowns: The pictures that were taken down when the version was begun.
        decisions: The file of decisions as it was then.
    """

    workspace: Workspace
    classifier: Classifier
    fetched: Sequence[FetchedRow]
    has_given_split: bool
    classes: Sequence[str]
    warnings: list[str]
    rows: list[ManifestRow] = field(default_factory=list)
    decoded: int = 0
    moved: Mapping[str, ImageFingerprint] = field(default_factory=dict)
    registry: list[SplitAssignment] = field(default_factory=list)
    assigned: list[SplitAssignment] = field(default_factory=list)
    grouping: Grouping = field(default_factory=Grouping)
    takedowns: Sequence[Takedown] = ()
    decisions: bytes | None = None

    @property
    def folder(self) -> DatasetFolder:
        """The dataset's."""
        return self.workspace.dataset(self.classifier.name)

    @property
    def bits(self) -> int:
        """How many bits of 16-bit gray files are used."""
        return self.classifier.dataset.bits

    @property
    def is_outdated(self) -> bool:
        """True if a picture was taken down since the version was begun."""
        return read_takedowns(self.folder) != self.takedowns

    @property
    def method(self) -> str:
        """How the version is split: a test set that a source brings is kept, unless the split is random."""
        method = self.classifier.dataset.split.method
        return "given" if method == "hash" and self.has_given_split else method

    @property
    def is_sticky(self) -> bool:
        """True if the split keeps to the assignments of earlier versions."""
        return self.method != "random"

    @property
    def given_sides(self) -> dict[int, str | None]:
        """The side that the source gives each picture, by position; None where it is open.

        Without a test set of a source's own only pictures have one that must train: feedback.
        """
        if self.method != "given":
            return {row.position: TRAIN for row in self.fetched if row.given_split == TRAIN_ONLY}
        sides = {None: None, TEST: TEST}
        return {row.position: sides.get(row.given_split, TRAIN) for row in self.fetched}
