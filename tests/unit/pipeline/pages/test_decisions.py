"""What people decide on pictures: many at once, kept with who and when, and taken back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.artifacts.decision_event import Decided
from pipeline.errors import ConfigError, ObjectNotFound
from pipeline.pages.decisions import (
    MAX_DECIDED,
    DecisionResult,
    count_pending,
    decide,
    describe_decision,
    list_events,
    undo,
)
from pipeline.pages.pictures import pending_decisions, read_pictures
from tests.fakes.pages import DATASET_VERSION, Fleet
from tests.fakes.rows import dataset_folder

DELETE, BEE = Decided(action="delete"), Decided(action="relabel", label="bee")
CONFIRM = Decided(action="confirm")


class Labelling:
    """A classifier, and somebody who decides on its pictures."""

    def __init__(self, folder: Path) -> None:
        self.fleet = Fleet(folder, classifiers=1, versions=1, pictures=60)
        self.cache, self.name = self.fleet.cache, self.fleet.names[0]
        self.pictures = [row.id for row in read_pictures(self.cache, self.name, DATASET_VERSION).rows]

    def decide(self, ids: list[str], decided: Decided | None, *, by: str = "ann") -> DecisionResult:
        return decide(self.cache, self.name, DATASET_VERSION, ids=ids, decided=decided, by=by)

    def undo(self, event: str = "", *, by: str = "ann") -> DecisionResult:
        return undo(self.cache, self.name, event=event, by=by)

    def in_force(self) -> dict[str, str]:
        decisions = pending_decisions(self.cache, self.name)
        return {id: f"{each.action} {each.label}".strip() for id, each in decisions.items()}


@pytest.fixture
def labelling(tmp_path: Path) -> Labelling:
    return Labelling(tmp_path)


def test_many_pictures_are_decided_on_at_once_and_each_label_is_confirmed_as_it_is(
    labelling: Labelling,
) -> None:
    one, two, three = labelling.pictures[:3]
    labelling.decide([one, two, three], CONFIRM)
    assert labelling.in_force() == {one: "confirm ant", two: "confirm bee", three: "confirm cat"}
    labelling.decide([one, two], BEE)
    assert labelling.in_force() == {three: "confirm cat", one: "relabel bee", two: "relabel bee"}


def test_who_decided_what_is_told_the_latest_first(labelling: Labelling) -> None:
    one, two, three = labelling.pictures[:3]
    labelling.decide([one, two], DELETE)
    labelling.decide([three], BEE, by="bob")
    latest, first = list_events(labelling.cache, labelling.name)
    assert (latest.event.by, latest.text, first.event.by, first.text) == (
        *("bob", "1 relabelled bee"),
        *("ann", "2 left out"),
    )


def test_undo_brings_back_what_was_decided_before_and_can_be_undone_itself(labelling: Labelling) -> None:
    picture = labelling.pictures[0]
    labelling.decide([picture], DELETE)
    labelling.decide([picture], BEE)
    undone = labelling.undo()
    assert labelling.in_force() == {picture: "delete"}
    labelling.undo()
    assert labelling.in_force() == {}
    with pytest.raises(ObjectNotFound, match="no decision of ann that can be taken back"):
        labelling.undo()
    labelling.decide([picture], DELETE)
    labelling.undo(undone.event)  # brings back what was undone, which somebody decided otherwise since
    assert labelling.in_force() == {picture: "relabel bee"}


def test_undo_is_of_ones_own_and_an_event_is_taken_back_once(labelling: Labelling) -> None:
    one, two = labelling.pictures[:2]
    first = labelling.decide([one], DELETE)
    labelling.decide([two], DELETE, by="bob")
    labelling.undo()
    assert labelling.in_force() == {two: "delete"}
    with pytest.raises(ConfigError, match="taken back already"):
        labelling.undo(first.event)
    with pytest.raises(ObjectNotFound, match="has no decision"):
        labelling.undo("../../x")


def test_a_picture_that_was_decided_on_since_keeps_that(labelling: Labelling) -> None:
    one, two = labelling.pictures[:2]
    both = labelling.decide([one, two], DELETE)
    labelling.decide([two], BEE, by="bob")
    result = labelling.undo(both.event)
    assert (labelling.in_force(), result.kept) == ({two: "relabel bee"}, 1)


def test_nothing_is_lost_where_several_people_decide_at_once(labelling: Labelling) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda id: labelling.decide([id], DELETE, by=id[:8]), labelling.pictures[:12]))
    assert set(labelling.in_force()) == set(labelling.pictures[:12])
    assert len(list(list_events(labelling.cache, labelling.name))) == 12


def test_too_many_and_none_are_refused(labelling: Labelling) -> None:
    with pytest.raises(ConfigError, match="500 pictures at once"):
        labelling.decide([labelling.pictures[0]] * (MAX_DECIDED + 1), DELETE)
    with pytest.raises(ConfigError, match="no picture '' to decide on"):
        labelling.decide([], DELETE)


def test_what_the_next_run_will_change_leaves_out_what_it_has_applied(labelling: Labelling) -> None:
    one, two, three = labelling.pictures[:3]
    labelling.decide([one, two], DELETE)
    labelling.decide([three], CONFIRM)
    assert count_pending(labelling.cache, labelling.name) == 2
    folder = dataset_folder(labelling.fleet.storage, labelling.name)
    applied = labelling.fleet.storage.read_bytes(folder.decisions)
    labelling.fleet.storage.write_bytes(folder.version(DATASET_VERSION).decisions, applied)
    assert count_pending(labelling.cache, labelling.name) == 0
    labelling.decide([one], None)
    labelling.decide([two], BEE)
    assert count_pending(labelling.cache, labelling.name) == 2


def test_a_decision_in_words() -> None:
    assert describe_decision(None, "ant") == ""
    assert describe_decision(DELETE, "ant") == "Will be left out from the next run on."
    assert describe_decision(BEE, "ant") == "Will be bee from the next run on."
    assert describe_decision(BEE, "bee") == "A person decided that it is bee."
