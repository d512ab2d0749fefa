from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.artifacts.history import EventType, HistoryEvent, read_history, record_event
from pipeline.artifacts.integrity import is_intact, keep_addressed, read_blob
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import DamagedObject
from pipeline.storage import Storage

DATA = b"what was written"
DIGEST = hashlib.sha256(DATA).hexdigest()
EVENT = HistoryEvent(event=EventType.PROMOTED, version="v1", run_id="r1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(Storage({"graft": tmp_path}), "gs://graft")


def flip(workspace: Workspace, uri: str, *, at: int = 0) -> None:
    data = bytearray(workspace.storage.read_bytes(uri))
    data[at] ^= 1
    workspace.storage.write_bytes(uri, bytes(data))


class TestAddressed:
    def test_a_damaged_object_is_written_again(
        self, workspace: Workspace, caplog: pytest.LogCaptureFixture
    ) -> None:
        uri = workspace.package(DIGEST)
        keep_addressed(workspace.storage, uri, DATA)
        assert is_intact(workspace.storage, uri, DIGEST)
        flip(workspace, uri)
        assert not is_intact(workspace.storage, uri, DIGEST)
        keep_addressed(workspace.storage, uri, DATA)
        assert workspace.storage.read_bytes(uri) == DATA
        assert f"{uri} was damaged and is written again" in caplog.text

    def test_a_lost_object_is_not_intact(self, workspace: Workspace) -> None:
        assert not is_intact(workspace.storage, workspace.weights(DIGEST), DIGEST)

    def test_a_damaged_picture_is_removed_so_that_the_next_fetch_reads_it_again(
        self, workspace: Workspace
    ) -> None:
        uri = workspace.blob(DIGEST)
        workspace.storage.write_bytes(uri, DATA)
        assert read_blob(workspace.storage, uri) == DATA
        flip(workspace, uri)
        with pytest.raises(DamagedObject, match=f"{uri} was damaged and is removed. Start another run"):
            read_blob(workspace.storage, uri)
        assert not workspace.storage.exists(uri)


class TestRecords:
    def uri(self, workspace: Workspace) -> str:
        record_event(workspace, "cats", EVENT)
        [uri] = workspace.storage.list_uris(workspace.classifier("cats").history)
        return uri

    def test_a_record_reads_as_it_was_written(self, workspace: Workspace) -> None:
        self.uri(workspace)
        [event] = read_history(workspace, "cats")
        assert (event.version, event.run_id) == ("v1", "r1")

    def test_no_flipped_bit_changes_what_is_read(self, workspace: Workspace) -> None:
        uri = self.uri(workspace)
        intact = workspace.storage.read_bytes(uri)
        value = json.loads(intact)
        del value["sha256"]
        for place in range(len(intact)):
            workspace.storage.write_bytes(uri, intact)
            flip(workspace, uri, at=place)
            with suppress(DamagedObject):
                events = read_history(workspace, "cats")
                assert [event.to_dict() for event in events] == [value], (
                    "white space only, or the digest's name"
                )

    def test_a_record_of_an_earlier_release_has_no_digest(self, workspace: Workspace) -> None:
        uri = self.uri(workspace)
        workspace.storage.write_json(uri, EVENT.to_dict())
        assert [event.version for event in read_history(workspace, "cats")] == ["v1"]

    def test_an_empty_file_is_named(self, workspace: Workspace) -> None:
        uri = self.uri(workspace)
        workspace.storage.write_bytes(uri, b"")
        with pytest.raises(DamagedObject, match=uri):
            read_history(workspace, "cats")
