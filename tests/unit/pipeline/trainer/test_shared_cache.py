from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.folders import SharedFile
from pipeline.artifacts.template import TemplateRecord, TrunkRecord
from pipeline.errors import StorageError
from pipeline.storage import Storage
from pipeline.trainer.shared_cache import find_shared, share_bytes, share_file


class RefusingStorage(Storage):
    def __init__(self, cause: OSError) -> None:
        super().__init__({})
        self.cause = cause

    def create_bytes(self, uri: str, data: bytes) -> bool:
        raise StorageError(f"Writing {uri} failed: {self.cause}") from self.cause


def test_what_is_shared_is_kept_once(tmp_path: Path) -> None:
    storage = Storage({"graft": tmp_path})
    share_bytes(storage, "gs://graft/light/x", b"first")
    share_bytes(storage, "gs://graft/light/x", b"second")
    assert storage.read_bytes("gs://graft/light/x") == b"first"


def test_a_job_that_may_not_write_there_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        share_bytes(RefusingStorage(PermissionError(13, "Permission denied")), "gs://graft/light/x", b"data")
    assert "gs://graft/light/x is not kept for later jobs" in caplog.text


def test_a_full_disk_is_an_error() -> None:
    with pytest.raises(StorageError, match="No space left"):
        share_bytes(RefusingStorage(OSError(28, "No space left on device")), "gs://graft/light/x", b"data")


DATA = b"a graph of placeholder numbers"
TEMPLATE = TemplateRecord(
    sha256=hashlib.sha256(DATA).hexdigest(),
    offsets={"hidden_kernel": (12, 48), "output_bias": (20,)},
    sizes={"hidden_kernel": 8, "output_bias": 4},
    files={"variables/variables.index": "AAAA"},
    made_by={"graft": "0.1.0", "tensorflow": "2.21.0"},
)
TRUNK = TrunkRecord(
    sha256=TEMPLATE.sha256, features=(0.1, 2.5), largest_difference=1e-6, made_by={"graft": "0.1.0"}
)
RECORDS = pytest.mark.parametrize("record", [TEMPLATE, TRUNK], ids=["template", "trunk"])


@pytest.fixture
def shared(tmp_path: Path) -> SharedFile:
    return SharedFile(Storage({"graft": tmp_path / "bucket"}), "gs://graft/templates/a/b/c", ".pb")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    path.write_bytes(DATA)
    return path


def change(shared: SharedFile, alter: Callable[[Any], None]) -> None:
    value = shared.storage.read_json(shared.record(0))
    alter(value)
    shared.storage.write_json(shared.record(0), value)


def leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where the texts and numbers of JSON values are."""
    if not isinstance(value, (dict, list)):
        return [place]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [each for name, field in inner for each in leaves(field, (*place, name))]


def alter_at(place: tuple[Any, ...]) -> Callable[[Any], None]:
    def alter(value: Any) -> None:
        for name in place[:-1]:
            value = value[name]
        old = value[place[-1]]
        value[place[-1]] = "x" + old[1:] if isinstance(old, str) else old * 2 + 4

    return alter


@RECORDS
def test_a_record_with_a_changed_value_is_refused_and_made_again(
    shared: SharedFile, made: Path, record: TemplateRecord | TrunkRecord, caplog: pytest.LogCaptureFixture
) -> None:
    places = leaves(json.loads(json.dumps(record.to_dict())))
    for place in places:
        share_file(shared, made, record)
        change(shared, alter_at(place))
        assert find_shared(shared, type(record).from_dict) is None, place
        assert f"{shared.record(0)} is refused, and made again" in caplog.text
        shared.storage.delete_tree("gs://graft/templates")
        caplog.clear()
    share_file(shared, made, record)
    change(shared, alter_at(places[-1]))
    share_file(shared, made, record)
    found = find_shared(shared, type(record).from_dict)
    assert found is not None
    assert found.record == record
    assert found.path == shared.storage.local_path(shared.data(1))


@RECORDS
@pytest.mark.parametrize(
    "text", [b"null", b"{}", b"[]", b"7", b"{", b"\xff", b'{"format": 1}', b'{"format": 9}']
)
def test_what_is_no_record_is_refused(
    shared: SharedFile, made: Path, record: TemplateRecord | TrunkRecord, text: bytes
) -> None:
    share_file(shared, made, record)
    shared.storage.write_bytes(shared.record(0), text)
    assert find_shared(shared, type(record).from_dict) is None


def test_a_copy_without_a_record_does_not_hide_the_next(shared: SharedFile, made: Path) -> None:
    shared.storage.write_bytes(shared.data(0), b"damaged before its record was written")
    share_file(shared, made, TEMPLATE)
    found = find_shared(shared, TemplateRecord.from_dict)
    assert found is not None
    assert found.path == shared.storage.local_path(shared.data(1))


def test_a_file_whose_job_was_killed_before_its_record_is_shared_by_the_next(
    shared: SharedFile, made: Path
) -> None:
    shared.storage.write_bytes(shared.data(0), DATA)
    assert find_shared(shared, TemplateRecord.from_dict) is None
    share_file(shared, made, TEMPLATE)
    assert find_shared(shared, TemplateRecord.from_dict) is not None
