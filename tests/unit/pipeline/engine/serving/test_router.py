from __future__ import annotations

import asyncio

import pytest

from pipeline.engine.serving.router import Router, ServedVersion
from pipeline.errors import Unavailable
from tests.fakes import FakePool, FakeServant

BODY = b'{"instances": ["x"]}'


class MortalServant(FakeServant):
    async def ask(self, kind, payload, **header):
        self.closed.set()
        raise Unavailable("The worker stopped.")


def serve(pool, directory, wait_seconds=5.0):
    async def fetch():
        return directory

    return ServedVersion("m/v", fetch, pool, wait_seconds=wait_seconds)


def test_a_request_whose_worker_dies_is_answered_by_the_next_worker(tmp_path):
    async def run():
        pool = FakePool()
        served = serve(pool, tmp_path)
        load = pool.load
        pool.load = lambda name, directory: asyncio.sleep(0, MortalServant(name))
        await served.start()
        pool.load = load
        answer = await served.ask("online", BODY)
        await served.close()
        assert b"predictions" in answer.payload
        assert [servant.asked for servant in pool.loaded] == [["online"]]

    asyncio.run(run())


def test_a_request_that_kills_every_worker_is_not_asked_for_ever(tmp_path):
    async def run():
        pool = FakePool()
        pool.load = lambda name, directory: asyncio.sleep(0, MortalServant(name))
        served = serve(pool, tmp_path)
        await served.start()
        with pytest.raises(Unavailable, match="The worker stopped"):
            await served.ask("online", BODY)
        await served.close()

    asyncio.run(run())


def test_a_request_does_not_wait_for_ever_for_a_worker(tmp_path):
    async def run():
        pool = FakePool()
        pool.gate = lambda name: False
        served = serve(pool, tmp_path, wait_seconds=0.05)
        served.keep()
        with pytest.raises(Unavailable, match="is being loaded; try again"):
            await served.ask("online", BODY)
        await served.close()

    asyncio.run(run())


def test_a_request_that_waits_for_a_version_that_is_deleted_is_refused_at_once(tmp_path):
    async def run():
        pool = FakePool()
        pool.gate = lambda name: False
        served = serve(pool, tmp_path, wait_seconds=60)
        served.keep()
        waiting = asyncio.create_task(served.ask("online", BODY))
        await asyncio.sleep(0.02)
        await served.close()
        for request in (waiting, served.ask("online", BODY)):
            with pytest.raises(Unavailable, match="is not served any more"):
                await asyncio.wait_for(request, 1)

    asyncio.run(run())


def test_closing_the_router_ends_every_worker(tmp_path):
    async def run():
        pool, router = FakePool(), Router()
        for version in ("a", "b"):
            served = serve(pool, tmp_path)
            await served.start()
            router.add("m", version, served)
        await router.close()
        assert [servant.closed.is_set() for servant in pool.loaded] == [True, True]

    asyncio.run(run())
