"""What people and runs do at the same moment: a run cleans while pictures are taken down and decided on."""

from __future__ import annotations

import csv
import io
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.artifacts.dataset import list_versions, read_latest
from pipeline.artifacts.decision_event import Decided
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.takedowns import read_takedowns
from pipeline.deploy.lock import acquire_lock
from pipeline.errors import ObjectNotFound
from pipeline.preprocess.decisions import decide_pictures
from pipeline.preprocess.takedown import forget_picture
from pipeline.storage import Storage
from tests.fakes.pictures import fetch_and_clean, folder_classifier, folder_of, storage_in
from tests.fakes.rows import dataset_folder, manifest_of, workspace_of

ROUNDS = 10 if os.environ.get("GRAFT_SOAK") else 2
PICTURES = 24
DELETE = Decided(action="delete")


class Toys:
    """A dataset that is cleaned, and its pictures."""

    def __init__(self, folder: Path, storage: Storage, chance: random.Random) -> None:
        self.storage, self.workspace, self.chance = storage, workspace_of(storage), chance
        self.classifier = folder_classifier(folder)

    def clean(self) -> str:
        return str(fetch_and_clean(self.classifier, self.storage)[1].version)

    def rows(self, version: str) -> list[ManifestRow]:
        return list(manifest_of(self.storage, version).rows())

    def forget(self, picture: str) -> dict[str, str]:
        """Take a picture down as the command does; return the versions that hold it."""
        with acquire_lock(self.workspace, "toys", subject="takedowns"):
            return forget_picture(self.workspace, "toys", picture).versions

    def holding(self, picture: str) -> set[str]:
        """Return the versions in which a picture trains or tests."""
        versions = list_versions(dataset_folder(self.storage, "toys"))
        return {
            version
            for version in versions
            if any(row.id == picture and row.split for row in self.rows(version))
        }


@pytest.fixture
def make(tmp_path: Path) -> Callable[[int], Toys]:
    def make(number: int) -> Toys:
        folder = folder_of(tmp_path / f"toys{number}" / "toys", {"ant": PICTURES, "cat": PICTURES})
        return Toys(folder, storage_in(tmp_path / f"bucket{number}"), random.Random(number))

    return make


def at_once(*actions: Callable[[], object]) -> list[object]:
    """Do things at the same moment; return what they return."""
    gate = threading.Barrier(len(actions))

    def begin(action: Callable[[], object]) -> object:
        gate.wait(30)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return [each.result(120) for each in [pool.submit(begin, action) for action in actions]]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_run_leaves_out_what_is_forgotten_while_it_cleans_or_the_takedown_names_its_version(
    make: Callable[[int], Toys], number: int
) -> None:
    toys = make(number)
    before = toys.clean()
    ids = sorted({str(row.id) for row in toys.rows(before)})
    decide_pictures(dataset_folder(toys.storage, "toys"), {ids[0]: DELETE})  # so that the run makes a version
    first, second = toys.chance.sample(ids[1:], 2)
    made, *named = at_once(toys.clean, lambda: toys.forget(first), lambda: toys.forget(second))
    latest = read_latest(dataset_folder(toys.storage, "toys")).version
    taken = {takedown.id for takedown in read_takedowns(dataset_folder(toys.storage, "toys"))}
    assert taken == {first, second}, "both takedowns are there"
    for picture, versions in zip((first, second), named, strict=True):
        assert isinstance(versions, dict)
        later = {str(made), str(latest)} - {before}
        # The run may have ended before the takedown began: then the takedown tells of its version.
        assert later & toys.holding(picture) <= set(versions), "a version holds it that nobody is told of"
        assert before in versions


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_version_keeps_the_very_decisions_that_it_was_made_with(
    make: Callable[[int], Toys], number: int
) -> None:
    toys = make(100 + number)
    folder = dataset_folder(toys.storage, "toys")
    ids = sorted({str(row.id) for row in toys.rows(toys.clean())})
    chosen = toys.chance.sample(ids, 8)

    def decide() -> None:
        for picture in chosen:
            decide_pictures(folder, {picture: DELETE})

    made, _ = at_once(toys.clean, decide)
    version = folder.version(str(made))
    text = ""  # the run began before the first decision
    with suppress(ObjectNotFound):
        text = toys.storage.read_bytes(version.decisions).decode()
    kept = {row["picture"] for row in csv.DictReader(io.StringIO(text))}
    deleted = {row.id for row in Manifest(version).rows() if row.decision == "delete"}
    assert deleted == kept
