from __future__ import annotations

import asyncio

import pytest

from pipeline.engine.backends import RunState, RunStatus
from pipeline.engine.jobs.status_board import StatusBoard
from pipeline.errors import Unavailable
from tests.fakes.engine import FakeBackend


@pytest.fixture
def backend() -> FakeBackend:
    backend = FakeBackend()
    backend.finish("a", 0)
    return backend


def test_those_who_ask_at_the_same_time_share_one_call(backend: FakeBackend) -> None:
    async def ask():
        board = StatusBoard(backend)
        return await asyncio.gather(board.read(["a"]), board.read(["b", "c"]), board.read([]))

    first, second, _ = asyncio.run(ask())
    assert backend.calls == [{"a", "b", "c"}]
    assert first["a"].exit_code == 0
    assert second["c"] == RunStatus(state=RunState.ABSENT)


def test_a_reply_is_of_a_call_that_began_after_it_was_asked_for(backend: FakeBackend) -> None:
    async def ask() -> RunStatus:
        board, entered, go_on = StatusBoard(backend), asyncio.Event(), asyncio.Event()
        statuses = backend.statuses

        async def slow(runs):
            replies = await statuses(runs)
            entered.set()
            await go_on.wait()
            return replies

        backend.statuses = slow
        early = asyncio.create_task(board.read(["b"]))
        await entered.wait()
        backend.finish("b", 3)
        late = asyncio.create_task(board.read(["b"]))
        go_on.set()
        assert (await early)["b"].state == RunState.ABSENT
        return (await late)["b"]

    assert asyncio.run(ask()).exit_code == 3
    assert backend.calls == [{"b"}, {"b"}]


def test_the_backend_is_not_asked_more_often_than_it_wants(backend: FakeBackend) -> None:
    async def ask() -> bool:
        board, backend.poll_seconds = StatusBoard(backend), 3600
        await board.read(["a"])
        second = asyncio.create_task(board.read(["a"]))
        await asyncio.wait([second], timeout=0.05)
        second.cancel()
        return second.done()

    assert not asyncio.run(ask())
    assert backend.calls == [{"a"}]


def test_one_who_gives_up_does_not_take_the_reply_from_others(backend: FakeBackend) -> None:
    async def ask() -> RunStatus:
        board = StatusBoard(backend)
        first = asyncio.create_task(board.read(["b"]))
        second = asyncio.create_task(board.read(["a"]))
        await asyncio.sleep(0)
        first.cancel()
        return (await second)["a"]

    assert asyncio.run(ask()).exit_code == 0


def test_the_damaged_record_of_a_run_fails_only_those_who_ask_for_it(backend: FakeBackend) -> None:
    statuses = backend.statuses

    async def read(runs):
        if "damaged" in runs:
            raise Unavailable("no JSON")
        return await statuses(runs)

    async def ask():
        board, backend.statuses = StatusBoard(backend), read
        both = await asyncio.gather(board.read(["damaged"]), board.read(["a"]), return_exceptions=True)
        return both, await board.read(["a"])

    (error, status), after = asyncio.run(ask())
    assert str(error) == "no JSON"
    assert status["a"].exit_code == after["a"].exit_code == 0
