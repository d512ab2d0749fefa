from __future__ import annotations

import asyncio

import pytest

from pipeline.engine.serving.deployment import Deployment
from pipeline.engine.serving.limits import RequestLimits
from pipeline.engine.serving.router import Router
from pipeline.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from tests.fakes.engine import FakePool, FakeWorker

BODY = b'{"instances": ["x"]}'


class MortalWorker(FakeWorker):
    async def ask(self, kind, payload, **header):
        self.closed.set()
        raise Unavailable("The worker stopped.")


def serve(pool, directory, wait_seconds=5.0, name="m/v", min_nodes=None, **limits):
    async def fetch():
        return directory

    limits = RequestLimits(wait_seconds=wait_seconds, **limits)
    return Deployment(name, fetch, pool, limits=limits, min_nodes=min_nodes)


async def start_slow(pool, directory, **more):
    """Serve a version whose answers wait for the returned event."""
    served, release = serve(pool, directory, **more), asyncio.Event()
    await served.start()

    async def slow(kind, payload, **header):
        await release.wait()
        return await FakeWorker("slow").ask(kind, payload, **header)

    pool.loaded[-1].ask = slow
    return served, release


def test_a_request_whose_worker_dies_is_answered_by_the_next_worker(tmp_path):
    async def run():
        pool = FakePool()
        served = serve(pool, tmp_path)
        load = pool.load
        pool.load = lambda name, directory: asyncio.sleep(0, MortalWorker(name))
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
        pool.load = lambda name, directory: asyncio.sleep(0, MortalWorker(name))
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


def test_one_request_more_than_a_version_may_have_is_refused_and_batches_are_not_counted_out(tmp_path):
    async def run():
        served, release = await start_slow(FakePool(), tmp_path, max_requests=2)
        waiting = [asyncio.create_task(served.ask("online", BODY)) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(ResourceExhausted, match="2 predictions of 40 bytes under way") as caught:
            await served.ask("online", BODY)
        assert caught.value.retry_after_seconds == 1
        batch = asyncio.create_task(served.ask("batch", BODY))
        release.set()
        await asyncio.gather(*waiting, batch)
        assert b"predictions" in (await served.ask("online", BODY)).payload
        await served.close()

    asyncio.run(run())


def test_more_bytes_than_a_version_may_hold_are_refused(tmp_path):
    async def run():
        served, release = await start_slow(FakePool(), tmp_path, max_bytes=30)
        waiting = asyncio.create_task(served.ask("online", BODY))
        await asyncio.sleep(0.01)
        with pytest.raises(ResourceExhausted, match="as many as it may"):
            await served.ask("online", BODY)
        release.set()
        await waiting
        await served.close()

    asyncio.run(run())


def test_a_request_that_takes_too_long_is_given_up(tmp_path):
    async def run():
        served, release = await start_slow(FakePool(), tmp_path, deadline_seconds=0.05)
        with pytest.raises(DeadlineExceeded, match=r"m/v did not answer in 0.05 s"):
            await served.ask("online", BODY)
        assert served.in_flight == 0
        await served.close()

    asyncio.run(run())


def test_a_version_that_is_deleted_answers_what_it_was_asked_and_no_more(tmp_path):
    async def run():
        pool = FakePool()
        served, release = await start_slow(pool, tmp_path)
        asked = asyncio.create_task(served.ask("online", BODY))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(served.close())
        await asyncio.sleep(0.02)
        assert not pool.loaded[0].closed.is_set()
        with pytest.raises(Unavailable, match="is not served any more"):
            await served.ask("online", BODY)
        release.set()
        assert b"predictions" in (await asked).payload
        await closing
        assert pool.loaded[0].closed.is_set()

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
            served = serve(pool, directory, name=f"m/{name}")
            await served.start()
            router.add("m", name, served)
            router.add_model("m", name)
        await asyncio.sleep(0.05)

    @staticmethod
    def loaded(pool):
        return [servant.name for servant in pool.loaded if not servant.closed.is_set()]

    def test_versions_that_nobody_uses_are_unloaded_but_the_default_and_the_one_before(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            await self.retrain(router, pool, tmp_path, "a", "b", "c", "d")
            assert self.loaded(pool) == ["m/c", "m/d"]
            await router.close()

        asyncio.run(run())

    def test_a_sleeping_version_answers_when_it_is_asked(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=1)
            await self.retrain(router, pool, tmp_path, "a", "b", "c", "d")
            assert self.loaded(pool) == ["m/b", "m/c", "m/d"]
            answer = await router.find("m", "a").ask("online", BODY)
            await asyncio.sleep(0.05)
            assert b"predictions" in answer.payload
            assert sorted(self.loaded(pool)) == ["m/a", "m/c", "m/d"]
            await router.close()

        asyncio.run(run())

    def test_a_sleeping_version_that_becomes_the_default_is_loaded_at_once(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            await self.retrain(router, pool, tmp_path, "a", "b", "c")
            assert self.loaded(pool) == ["m/b", "m/c"]
            router.add_model("m", "a")
            await asyncio.sleep(0.05)
            assert sorted(self.loaded(pool)) == ["m/a", "m/c"]
            await router.close()

        asyncio.run(run())

    def test_a_busy_version_is_not_unloaded(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            await self.retrain(router, pool, tmp_path, "a")
            busy, release = router.find("m", "a"), asyncio.Event()

            async def slow(kind, payload, **header):
                await release.wait()
                return await FakeWorker("m/a").ask(kind, payload, **header)

            pool.loaded[0].ask = slow
            asking = asyncio.create_task(busy.ask("online", BODY))
            await asyncio.sleep(0.02)
            await self.retrain(router, pool, tmp_path, "b", "c")
            assert not pool.loaded[0].closed.is_set()
            release.set()
            assert b"predictions" in (await asking).payload
            await router.close()

        asyncio.run(run())

    def test_the_former_default_stays_for_a_roll_back(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            await self.retrain(router, pool, tmp_path, "a", "b")
            router.add("m", "other", other := serve(pool, tmp_path, name="m/other"))
            await other.ask("online", BODY)
            router.add_model("m", "b")
            await asyncio.sleep(0.05)
            assert self.loaded(pool) == ["m/a", "m/b"]
            await router.close()

        asyncio.run(run())


class TestNodes:
    """`autoScaling.minNodes`: 0 loads on demand, 1 and more stay loaded whatever else there is."""

    loaded = staticmethod(TestMemory.loaded)

    def test_without_nodes_a_version_is_loaded_when_asked_and_unloaded_when_idle(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=2)
            router.add_model("m", "v")
            router.add("m", "v", served := serve(pool, tmp_path, min_nodes=0, idle_seconds=0.05))
            await asyncio.sleep(0.02)
            assert self.loaded(pool) == []
            for _ in range(2):
                await router.find("m").ask("online", BODY)
                assert self.loaded(pool) == ["m/v"]
                await asyncio.sleep(0.12)
                assert self.loaded(pool) == []
            assert not served.is_loaded
            await router.close()

        asyncio.run(run())

    def test_nodes_keep_a_version_loaded_that_is_no_default(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            router.add_model("m", "v")
            router.add("m", "v", serve(pool, tmp_path))
            router.add("m", "other", serve(pool, tmp_path, name="m/other", min_nodes=1))
            await asyncio.sleep(0.05)
            assert sorted(self.loaded(pool)) == ["m/other", "m/v"]
            router.configure("m", "other", min_nodes=None)
            await asyncio.sleep(0.05)
            assert self.loaded(pool) == ["m/v"]
            await router.close()

        asyncio.run(run())

    def test_a_default_may_be_scaled_to_no_nodes_and_back(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            router.add_model("m", "v")
            router.add("m", "v", serve(pool, tmp_path, idle_seconds=0.03))
            await asyncio.sleep(0.05)
            router.configure("m", "v", min_nodes=0)
            await asyncio.sleep(0.08)
            assert self.loaded(pool) == []
            router.configure("m", "v", min_nodes=1)
            await asyncio.sleep(0.05)
            assert self.loaded(pool) == ["m/v"]
            await router.close()

        asyncio.run(run())
