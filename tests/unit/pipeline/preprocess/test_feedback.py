"""Feedback in a dataset version: only what is confirmed, only in training, and never beside the test set."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artifacts.feedback import Feedback
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.datasets.fetch import fetch_pictures
from pipeline.errors import ConfigError, DamagedObject, EmptyDataset
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.feedback import decide_feedback, read_feedback
from pipeline.storage import Storage
from tests.fakes.pictures import fetch_and_clean, folder_of, jpeg, noise, png, storage_in
from tests.fakes.rows import manifest_rows, workspace_of

NAME = "toys"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


@pytest.fixture
def workspace(storage: Storage) -> Workspace:
    return workspace_of(storage)


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "toys", {"ant": 12, "cat": 12})


def classifier(toys: Path, **split: object) -> Classifier:
    sources = [{"type": "folder", "uri": str(toys)}, {"type": "feedback"}]
    return Classifier.from_dict({"name": NAME, "dataset": {"sources": sources, "split": split}})


def say(workspace: Workspace, data: bytes, label: str, *, confirmed: bool | None = True) -> str:
    """Keep feedback as the engine does."""
    folder, id = workspace.feedback(NAME), hashlib.sha256(data).hexdigest()
    record = Feedback(
        id=id, label=label, origin="api", who="ann", request_id="r", at="2026-01-01", confirmed=confirmed
    )
    workspace.storage.write_bytes(folder.picture(id), data)
    record.write(workspace.storage, folder.record(id))
    return folder.picture(id)


def test_confirmed_pictures_train_and_never_test(toys: Path, workspace: Workspace, storage: Storage) -> None:
    said = [say(workspace, png(noise(51000 + seed)), "ant") for seed in range(20)]
    waiting = say(workspace, png(noise(52000)), "cat", confirmed=None)
    rejected = say(workspace, png(noise(52001)), "cat", confirmed=False)
    result = fetch_and_clean(classifier(toys, test_fraction=0.5), storage)[1]
    sides = {row.source_url: row.split for row in manifest_rows(storage, result.version)}
    assert [sides[uri] for uri in said] == ["train"] * 20
    assert waiting not in sides
    assert rejected not in sides
    others = [side for uri, side in sides.items() if uri not in said]
    assert others.count("test") >= 6


def test_the_other_pictures_are_split_as_without_feedback(
    toys: Path, workspace: Workspace, storage: Storage
) -> None:
    before = fetch_and_clean(classifier(toys), storage)[1]
    say(workspace, png(noise(51000)), "ant")
    after = fetch_and_clean(classifier(toys), storage)[1]
    assert before.version != after.version
    first = {row.id: row.split for row in manifest_rows(storage, before.version)}
    second = {row.id: row.split for row in manifest_rows(storage, after.version)}
    assert {id: second[id] for id in first} == first
    assert len(second) == len(first) + 1


def test_a_copy_of_a_test_picture_is_kept_out(toys: Path, workspace: Workspace, storage: Storage) -> None:
    before = fetch_and_clean(classifier(toys), storage)[1]
    rows = manifest_rows(storage, before.version)
    test = next(row for row in rows if row.split == "test")
    pixels = storage.read_bytes(workspace.blob(test.blob))
    uri = say(workspace, recompressed(pixels), test.label)
    after = fetch_and_clean(classifier(toys), storage)[1]
    [copy] = [row for row in manifest_rows(storage, after.version) if row.source_url == uri]
    assert (copy.split, copy.reason) == (None, "straddles_split")


def recompressed(data: bytes) -> bytes:
    import io

    import numpy as np
    from PIL import Image

    return jpeg(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_a_damaged_picture_is_named(toys: Path, workspace: Workspace, storage: Storage) -> None:
    uri = say(workspace, png(noise(51000)), "ant")
    storage.write_bytes(uri, png(noise(51001)))
    with pytest.raises(DamagedObject, match="another SHA-256"):
        fetch_pictures(workspace, classifier(toys))


def test_feedback_alone_is_no_dataset(workspace: Workspace) -> None:
    alone = Classifier.from_dict({"name": NAME, "dataset": {"source": {"type": "feedback"}}})
    with pytest.raises(EmptyDataset, match="only trains"):
        fetch_pictures(workspace, alone)


def test_a_random_split_would_test_with_it_and_is_refused(toys: Path) -> None:
    with pytest.raises(ConfigError, match="only trains"):
        classifier(toys, method="random")


class TestDeciding:
    def test_a_label_is_confirmed_corrected_and_taken_back(
        self, toys: Path, workspace: Workspace, storage: Storage
    ) -> None:
        fetch_and_clean(classifier(toys), storage)
        say(workspace, png(noise(51000)), "ant", confirmed=None)
        cache = ArtifactCache(workspace)
        [record] = read_feedback(cache, NAME).waiting
        decide_feedback(cache, NAME, record.id, confirmed=True, label="cat", by="bob")
        view = read_feedback(cache, NAME)
        assert (view.num_waiting, view.num_confirmed) == (0, 1)
        assert [(each.label, each.decided_by) for each in view.decided] == [("cat", "bob")]
        decide_feedback(cache, NAME, record.id, confirmed=None, label="", by="bob")
        assert read_feedback(cache, NAME).waiting == [replace(record, label="cat")]

    def test_a_label_that_is_no_class_is_refused(
        self, toys: Path, workspace: Workspace, storage: Storage
    ) -> None:
        fetch_and_clean(classifier(toys), storage)
        say(workspace, png(noise(51000)), "dog", confirmed=None)
        cache = ArtifactCache(workspace)
        [record] = read_feedback(cache, NAME).waiting
        with pytest.raises(ConfigError, match=r"no class 'dog'.*ant, cat"):
            decide_feedback(cache, NAME, record.id, confirmed=True, label="dog", by="bob")
        decide_feedback(cache, NAME, record.id, confirmed=False, label="", by="bob")
        assert read_feedback(cache, NAME).num_confirmed == 0
