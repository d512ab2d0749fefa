from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.artifacts.steps import Promotion
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.lock import KEPT_LOCKS, acquire_lock
from pipeline.deploy.promote import promote_version
from pipeline.errors import StorageError
from pipeline.storage import Storage
from tests.fakes.clock import FakeClock
from tests.fakes.ml_engine import FakeMLEngine

FOLDER = "gs://graft/classifiers/m/promotions/"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(Storage({"graft": tmp_path}), "gs://graft")


def test_locks_are_counted_and_old_ones_forgotten(workspace: Workspace) -> None:
    for expected in range(1, 2 * KEPT_LOCKS):
        with acquire_lock(workspace, "m") as lock:
            assert lock.number == expected
    assert len(workspace.storage.list_uris(FOLDER)) == 2 * KEPT_LOCKS


def test_only_one_holds_the_lock(workspace: Workspace) -> None:
    holders, most, mutex = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal holders, most
        with acquire_lock(workspace, "m") as lock:
            with mutex:
                holders += 1
                most = max(most, holders)
            with mutex:
                holders -= 1
        return lock.number

    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(work, range(18)))
    assert most == 1
    assert sorted(numbers) == list(range(1, 19))


def test_lock_of_a_dead_holder_is_taken_after_a_while(workspace: Workspace) -> None:
    clock = FakeClock()
    dead = acquire_lock(workspace, "m", clock=clock, abandon_seconds=30)
    dead.__enter__()
    with acquire_lock(workspace, "m", clock=clock, abandon_seconds=30) as lock:
        assert lock.number == 2
        assert clock.now() >= 1030


def test_next_try_takes_the_lock_that_its_killed_try_left_open(workspace: Workspace) -> None:
    killed = acquire_lock(workspace, "m", holder="promote v_1")
    old = killed.__enter__()
    assert old.is_valid
    with acquire_lock(workspace, "m", holder="promote v_1") as lock:
        assert lock.number == 1
        assert lock.is_valid
        assert not old.is_valid, "the killed try, should it live on, must not act any more"
        killed.__exit__(None, None, None)
        assert workspace.storage.list_uris(FOLDER) == [f"{FOLDER}000000001.json"], "nor release the next one"
    with acquire_lock(workspace, "m", holder="promote v_1") as lock:
        assert lock.number == 2


def test_waiting_ends(workspace: Workspace) -> None:
    clock = FakeClock()
    with acquire_lock(workspace, "m", clock=clock, abandon_seconds=1e9):
        other = FakeClock()
        other.time = clock.time - 1e6  # a clock so far behind that no lock looks old
        waiting = acquire_lock(workspace, "m", clock=other, abandon_seconds=1)
        with pytest.raises(StorageError, match="The promotions of m stayed locked for 2 s"):
            waiting.__enter__()


def test_holder_that_was_too_slow_must_not_act(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, clock = FakeMLEngine(), FakeClock()
    engine.ensure_model("m")
    for version in ("v_1", "v_2"):
        engine.create_version("m", {"name": version})
    monkeypatch.setattr("pipeline.deploy.lock.SystemClock", lambda: clock)
    real = engine.get_model

    def slow(name: str) -> dict[str, object] | None:
        clock.sleep(400)
        return real(name)

    monkeypatch.setattr(engine, "get_model", slow)
    with pytest.raises(StorageError, match="ran out; try again"):
        promote_version(workspace, engine, model="m", version="v_2", champion="v_1")
    assert engine.models["m"]["defaultVersion"]["name"].endswith("v_1")
    monkeypatch.setattr(engine, "get_model", real)
    promoted = promote_version(workspace, engine, model="m", version="v_2", champion="v_1")
    assert promoted is Promotion.PROMOTED
