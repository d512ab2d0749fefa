from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets.manifest import read_manifest
from pipeline.pixels.spec import PixelSpec
from pipeline.preprocess import pack
from pipeline.preprocess.old_packs import delete_old_packs
from pipeline.preprocess.pack import PackPlan, pack_shard, plan_pack
from pipeline.storage import Storage
from tests.fakes_pictures import WORKSPACE, fetch_and_clean, folder_classifier, folder_of, storage_in

SPEC = PixelSpec(height=8, width=6, offset=127, divisor=128)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MAX_SHARD_ROWS", 8)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "toys", {"ant": 12, "cat": 12})


def make(toys: Path, storage: Storage) -> PackPlan:
    """Pack what is in the folder, and pretend that a job has forwarded it."""
    version = fetch_and_clean(folder_classifier(toys), storage)[1]["version"]
    made = plan_pack(storage, WORKSPACE, "toys", version, SPEC)
    for item in made.items:
        pack_shard(storage, WORKSPACE, made.index_uri, item)
    for uri in features(made):
        storage.write_bytes(uri, b"")
    return made


def features(made: PackPlan) -> list[str]:
    names = [entry["digest"] for entry in made.index["shards"]]
    return [f"{WORKSPACE}/features/weights/{spec}/{name}.npz" for spec in ("s", "s-view-v") for name in names]


def drop_picture(made: PackPlan, storage: Storage) -> None:
    rows = read_manifest(storage, WORKSPACE, "toys", made.index["version"])
    gone = next(row for row in rows if row.split == "train")
    Path(gone.source_url.removeprefix("file://")).unlink()


def sweep(storage: Storage, **changes: Any) -> list[str]:
    given: dict[str, Any] = {"needed": (), "live": (), "before": LATER}
    return delete_old_packs(storage, WORKSPACE, **{**given, **changes})


def objects(storage: Storage) -> set[str]:
    return set(storage.list_uris(f"{WORKSPACE}/"))


@pytest.fixture
def packs(toys: Path, storage: Storage) -> tuple[PackPlan, PackPlan]:
    """Those of an old version and of the latest one, which has some shards of the old one."""
    old = make(toys, storage)
    drop_picture(old, storage)
    return old, make(toys, storage)


def test_what_only_the_old_version_has_goes(storage: Storage, packs: tuple[PackPlan, PackPlan]) -> None:
    old, latest = packs
    before = objects(storage)
    assert sweep(storage) == [old.index["version"]]
    kept = {entry["uri"] for entry in latest.index["shards"]}
    gone = {entry["uri"] for entry in old.index["shards"]} - kept
    assert len(gone) == 1
    left = objects(storage)
    assert {uri for uri in before - left if uri.endswith(".npz")} == {
        *gone,
        *(uri for uri in features(old) if uri not in features(latest)),
    }
    assert not any(old.index["version"] in uri for uri in left if "/datasets/" not in uri)
    assert kept | set(features(latest)) | {latest.index_uri} <= left
    assert {uri for uri in before if "/datasets/" in uri or "/blobs/" in uri} <= left
    assert sweep(storage) == []


@pytest.mark.parametrize("why", ["needed", "live", "before"])
def test_nothing_goes_that_somebody_may_want(
    storage: Storage, packs: tuple[PackPlan, PackPlan], why: str
) -> None:
    before = objects(storage)
    reasons: dict[str, Any] = {
        "needed": [packs[0].index["version"]],
        "live": ["toys"],
        "before": datetime(2000, 1, 1, tzinfo=UTC),
    }
    assert sweep(storage, **{why: reasons[why]}) == []
    assert objects(storage) == before


def test_a_pack_that_is_wanted_after_all_is_made_again(
    storage: Storage, packs: tuple[PackPlan, PackPlan]
) -> None:
    old = packs[0]
    sweep(storage)
    again = plan_pack(storage, WORKSPACE, "toys", old.index["version"], SPEC)
    assert sum(pack_shard(storage, WORKSPACE, again.index_uri, item)["decoded"] for item in again.items) > 0
    ids = {
        row.id
        for row in read_manifest(storage, WORKSPACE, "toys", old.index["version"])
        if row.split == "train"
    }
    assert sum(entry["rows"] for entry in again.index["shards"]) == len(ids)
