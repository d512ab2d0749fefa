from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import ObjectNotFound
from pipeline.preprocess import decoding
from pipeline.preprocess.decoding import BATCH, map_blobs
from pipeline.storage import Storage
from tests.fakes.pictures import WORKSPACE, encode, storage_in
from tests.fakes.rows import workspace_of

THREADS = 3


@pytest.fixture(autouse=True)
def _cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_num_cores", lambda: THREADS)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


def keep(storage: Storage, files: list[bytes]) -> list[str]:
    names = [hashlib.sha256(data).hexdigest() for data in files]
    for name, data in zip(names, files, strict=True):
        storage.create_bytes(f"{WORKSPACE}/blobs/{name}", data)
    return names


def png(width: int, height: int) -> bytes:
    return encode(Image.new("1", (width, height)), "PNG")


class TestMapBlobs:
    def test_gives_results_in_the_order_of_the_blobs(self, storage: Storage) -> None:
        names = keep(storage, [bytes([number]) for number in range(50)])
        later = threading.Event()

        def number_of(data: bytes) -> int:
            if data[0] == 0:
                later.wait(10)
            later.set()
            return data[0]

        assert list(map_blobs(workspace_of(storage), number_of, names)) == list(range(50))

    def test_calls_from_as_many_threads_as_there_are_cores(self, storage: Storage) -> None:
        names = keep(storage, [bytes([number]) for number in range(THREADS * BATCH)])
        meeting = threading.Barrier(THREADS)
        assert sum(map_blobs(workspace_of(storage), lambda _: meeting.wait(10) >= 0, names)) == len(names)

    @pytest.mark.parametrize(("side", "at_once"), [(60, 1), (50, 2), (10, THREADS)])
    def test_has_room_for_so_many_pixels_at_a_time(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch, side: int, at_once: int
    ) -> None:
        monkeypatch.setattr(decoding, "ROOM_PIXELS", 5000)
        names = keep(storage, [png(side, side)] * (4 * BATCH))
        inside, most, lock = 0, 0, threading.Lock()

        def count(data: bytes) -> None:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.005)
            with lock:
                inside -= 1

        list(map_blobs(workspace_of(storage), count, names))
        assert most == at_once

    def test_ends_soon_after_an_error_and_when_nobody_wants_more(self, storage: Storage) -> None:
        names = keep(storage, [bytes([number]) for number in range(200)])
        called: list[int] = []

        def fail_first(data: bytes) -> None:
            called.append(data[0])
            if data[0] == 0:
                raise OSError("disk")
            time.sleep(0.01)

        with pytest.raises(OSError, match="disk"):
            list(map_blobs(workspace_of(storage), fail_first, names))
        assert len(called) < 2 * BATCH
        called.clear()
        results = map_blobs(
            workspace_of(storage), lambda data: called.append(data[0]) or time.sleep(0.01), names
        )
        next(results)
        results.close()
        assert len(called) <= (THREADS + 1) * BATCH

    def test_does_not_run_ahead_of_who_takes_the_results(self, storage: Storage) -> None:
        names = keep(storage, [bytes([number]) for number in range(200)])
        called: list[int] = []
        results = map_blobs(workspace_of(storage), lambda data: called.append(data[0]), names)
        next(results)
        assert len(called) <= (THREADS + 1) * BATCH
        assert len(list(results)) == 199

    def test_raises_the_first_error_in_the_order_of_the_blobs(self, storage: Storage) -> None:
        names = keep(storage, [bytes([number]) for number in range(20)])
        results = map_blobs(
            workspace_of(storage), bytes, [*names[:BATCH], "f" * 64, *names[BATCH:], "e" * 64]
        )
        assert [next(results)[0] for _ in range(BATCH)] == list(range(BATCH))
        with pytest.raises(ObjectNotFound, match="f" * 64):
            next(results)
        with pytest.raises(StopIteration):
            next(results)

    def test_of_nothing_is_nothing(self, storage: Storage) -> None:
        assert list(map_blobs(workspace_of(storage), len, [])) == []
