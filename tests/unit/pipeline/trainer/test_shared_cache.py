from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.storage import Storage
from pipeline.trainer.shared_cache import share_bytes


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
