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
        pool, router = FakePool(), Router(num_warm=2)
        for version in ("a", "b"):
            served = serve(pool, tmp_path)
            await served.start()
            router.add("m", version, served)
        await router.close()
        assert [servant.closed.is_set() for servant in pool.loaded] == [True, True]

    asyncio.run(run())


class TestMemory:
    """Each loaded version costs a process, so only defaults and the last used others stay loaded."""

    @staticmethod
    async def retrain(router, pool, directory, *names):
        for name in names:

            async def fetch():
                return directory

            served = ServedVersion(f"m/{name}", fetch, pool, wait_seconds=5)
            await served.start()
            router.add("m", name, served)
            router.add_model("m", name)
        await asyncio.sleep(0.05)

    @staticmethod
    def loaded(pool):
        return [servant.name for servant in pool.loaded if not servant.closed.is_set()]

    def test_versions_that_nobody_uses_are_unloaded_but_the_default_and_the_one_before(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=1)
            await self.retrain(router, pool, tmp_path, "a", "b", "c", "d")
            assert self.loaded(pool) == ["m/c", "m/d"]
            await router.close()

        asyncio.run(run())

    def test_a_sleeping_version_answers_when_it_is_asked(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=1)
            await self.retrain(router, pool, tmp_path, "a", "b", "c")
            answer = await router.find("m", "a").ask("online", BODY)
            await asyncio.sleep(0.05)
            assert b"predictions" in answer.payload
            assert sorted(self.loaded(pool)) == ["m/a", "m/c"]
            await router.close()

        asyncio.run(run())

    def test_a_sleeping_version_that_becomes_the_default_is_loaded_at_once(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            await self.retrain(router, pool, tmp_path, "a", "b")
            assert self.loaded(pool) == ["m/b"]
            router.add_model("m", "a")
            await asyncio.sleep(0.05)
            assert self.loaded(pool) == ["m/a"]
            await router.close()

        asyncio.run(run())

    def test_a_busy_version_is_not_unloaded(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            await self.retrain(router, pool, tmp_path, "a")
            busy, release = router.find("m", "a"), asyncio.Event()

            async def slow(kind, payload, **header):
                await release.wait()
                return await FakeServant("m/a").ask(kind, payload, **header)

            pool.loaded[0].ask = slow
            asking = asyncio.create_task(busy.ask("online", BODY))
            await asyncio.sleep(0.02)
            await self.retrain(router, pool, tmp_path, "b")
            assert not pool.loaded[0].closed.is_set()
            release.set()
            assert b"predictions" in (await asking).payload
            await router.close()

        asyncio.run(run())
