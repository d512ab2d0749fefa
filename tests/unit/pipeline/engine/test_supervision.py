from __future__ import annotations

import asyncio

import pytest

from pipeline.engine import supervision
from pipeline.engine.supervision import FAILURES, supervise


def count(task):
    return FAILURES.labels(task)._value.get()


def test_work_that_raises_is_logged_counted_and_started_again(monkeypatch, caplog):
    monkeypatch.setattr(supervision, "RESTART_SECONDS", (0.0,))
    calls = []

    async def work():
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("a bug")
        return "done"

    before = count("test")
    assert asyncio.run(supervise("test", work)) == "done"
    assert count("test") == before + 2
    assert caplog.text.count("RuntimeError: a bug") == 2


def test_a_cancelled_task_is_not_started_again():
    async def main():
        task = asyncio.create_task(supervise("test", lambda: asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
