"""Which pictures of a dataset version train, which test, and which are left out or judge instead."""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import SplitError
from pipeline.preprocess.clean_state import CleanState
from pipeline.preprocess.split import (
    TRAIN,
    VALIDATION,
    Member,
    check_split,
    split_at_random,
    split_by_hash,
)
from pipeline.preprocess.window import apply_window, describe_window


def check_given_split(state: CleanState) -> None:
    """Make sure that a source brings a test set where the classifier wants to keep one.

    Raises:
        SplitError: if none does.
    """
    if state.method == "given" and not state.has_given_split:
        raise SplitError(
            "`dataset.split.method` is given, but no source brings a test set: a folder or an archive with "
            "`train` and `test`, each with the class folders, or a `test.txt` that names pictures. "
            "Without one write `method: hash`."
        )


def choose_sides(state: CleanState) -> None:
    """Split the kept pictures, leave out those outside the window, and mark those that validate.

    Raises:
        SplitError: if a class then has nothing to train or to test with.
    """
    _split(state)
    _apply_window(state)
    _mark_validation(state)


def _split(state: CleanState) -> None:
    """Give each kept picture its side."""
    config = state.classifier.dataset.split
    kept = [row for row in state.rows if row.group is not None]
    members = [Member(label=row.label, group=row.group or "") for row in kept]
    if not state.is_sticky:
        splits = split_at_random(len(kept), fraction=config.test_fraction, seed=config.seed)
    else:
        by_group = split_by_hash(
            members, state.classes, assigned=state.grouping.splits,
            fraction=config.test_fraction, salt=str(config.seed),
        )  # fmt: skip
        splits = [by_group[member.group] for member in members]
    check_split(members, splits, state.classes, is_given=state.method == "given")
    by_position = {row.position: split for row, split in zip(kept, splits, strict=True)}
    state.rows = [replace(row, split=by_position.get(row.position)) for row in state.rows]
    state.warnings += _describe_given_split(state)


def _apply_window(state: CleanState) -> None:
    """Leave out what is older than the window; each class must still train and test."""
    window = state.classifier.dataset.window
    if window is None:
        return
    state.rows = apply_window(state.rows, window)
    kept = [row for row in state.rows if row.is_kept and row.split is not None]
    members = [Member(label=row.label, group=row.group or "") for row in kept]
    check_split(members, [row.split or "" for row in kept], state.classes)
    state.warnings += describe_window(state.rows)


def _mark_validation(state: CleanState) -> None:
    """Let the training pictures of the sources' validation parts judge, if the classifier wants that."""
    if state.classifier.model.validation != "given":
        return
    positions = {row.position for row in state.fetched if row.given_split == VALIDATION}
    state.rows = [
        replace(row, role=VALIDATION) if row.position in positions and row.split == TRAIN else row
        for row in state.rows
    ]
    if not any(row.role for row in state.rows):
        raise SplitError(
            "`model.validation` is given, but no source brings a validation part: a folder `val`, `valid` or "
            "`validation` beside `train`, or such a column. Without one set `validation_fraction` instead."
        )
    trained = {row.label for row in state.rows if row.split == TRAIN and row.role is None}
    missing = [label for label in state.classes if label not in trained]
    if missing:
        raise SplitError(
            f"all training pictures of {', '.join(missing)} are in the validation part of their source; "
            "`model.validation: given` leaves none to train on. Add some, or set `validation_fraction`."
        )


def _describe_given_split(state: CleanState) -> list[str]:
    """Return where the version does not follow the split of its sources."""
    if state.method == "random" and state.has_given_split:
        return ["given_split: `split.method` is random, so the test set that a source brings is not kept"]
    given_sides = state.given_sides
    moved = sum(
        row.split is not None and given_sides.get(row.position) not in (None, row.split) for row in state.rows
    )
    if not moved:
        return []
    return [f"given_split: {moved} pictures stay on the side that an earlier version put them on"]
