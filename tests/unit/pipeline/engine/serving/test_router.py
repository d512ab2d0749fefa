from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pipeline.engine.serving.deployment import Deployment
from pipeline.engine.serving.limits import RequestLimits
from pipeline.engine.serving.messages import RequestKind, WorkerRequest
from pipeline.engine.serving.router import Router
from pipeline.engine.v1.resources import VersionPatch
from pipeline.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from tests.fakes.engine import FakePool, FakeWorker

ONLINE = WorkerRequest(kind=RequestKind.ONLINE, payload=b'{"instances": ["x"]}')
BATCH = replace(ONLINE, kind=RequestKind.BATCH)


class MortalWorker(FakeWorker):
    async def ask(self, request):
        self.closed.set()
        raise Unavailable("The worker stopped.")


def scaled_to(min_nodes):
    return VersionPatch.model_validate({"autoScaling": {"minNodes": min_nodes}})


def serve(pool, directory, wait_seconds=5.0, name="m/v", min_nodes=None, **limits):
    async def fetch():
        return directory

    limits = RequestLimits(wait_seconds=wait_seconds, **limits)
    return Deployment(name, fetch, pool, limits=limits, min_nodes=min_nodes)


async def start_slow(pool, directory, **more):
    """Serve a version whose answers wait for the returned event."""
    deployment, release = serve(pool, directory, **more), asyncio.Event()
    await deployment.start()

    async def slow(request):
        await release.wait()
        return await FakeWorker("slow").ask(request)

    pool.loaded[-1].ask = slow
    return deployment, release


def test_a_request_whose_worker_dies_is_answered_by_the_next_worker(tmp_path):
    async def run():
        pool = FakePool()
        deployment = serve(pool, tmp_path)
        load = pool.load
        pool.load = lambda name, directory: asyncio.sleep(0, MortalWorker(name))
        await deployment.start()
        pool.load = load
        answer = await deployment.ask(ONLINE)
        await deployment.close()
        assert b"predictions" in answer.payload
        assert [worker.requests for worker in pool.loaded] == [[RequestKind.ONLINE]]

    asyncio.run(run())


def test_a_request_that_kills_two_workers_is_refused(tmp_path):
    async def run():
        pool = FakePool()
        pool.load = lambda name, directory: asyncio.sleep(0, MortalWorker(name))
        deployment = serve(pool, tmp_path)
        await deployment.start()
        with pytest.raises(Unavailable, match="The worker stopped"):
            await deployment.ask(ONLINE)
        await deployment.close()

    asyncio.run(run())


def test_a_request_waits_for_a_worker_up_to_its_limit(tmp_path):
    async def run():
        pool = FakePool()
        pool.gate = lambda name: False
        deployment = serve(pool, tmp_path, wait_seconds=0.05)
        deployment.supervise()
        with pytest.raises(Unavailable, match="is being loaded; try again"):
            await deployment.ask(ONLINE)
        await deployment.close()

    asyncio.run(run())


def test_a_request_waiting_for_a_deleted_version_is_refused_at_once(tmp_path):
    async def run():
        pool = FakePool()
        pool.gate = lambda name: False
        deployment = serve(pool, tmp_path, wait_seconds=60)
        deployment.supervise()
        waiting = asyncio.create_task(deployment.ask(ONLINE))
        await asyncio.sleep(0.02)
        await deployment.close()
        for request in (waiting, deployment.ask(ONLINE)):
            with pytest.raises(Unavailable, match="is not served any more"):
                await asyncio.wait_for(request, 1)

    asyncio.run(run())


def test_the_request_over_the_limit_is_refused_but_batches_are_not(tmp_path):
    async def run():
        deployment, release = await start_slow(FakePool(), tmp_path, max_requests=2)
        waiting = [asyncio.create_task(deployment.ask(ONLINE)) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(ResourceExhausted, match="2 predictions of 40 bytes under way") as caught:
            await deployment.ask(ONLINE)
        assert caught.value.retry_after_seconds == 1
        batch = asyncio.create_task(deployment.ask(BATCH))
        release.set()
        await asyncio.gather(*waiting, batch)
        assert b"predictions" in (await deployment.ask(ONLINE)).payload
        await deployment.close()

    asyncio.run(run())


def test_more_bytes_than_a_version_may_hold_are_refused(tmp_path):
    async def run():
        deployment, release = await start_slow(FakePool(), tmp_path, max_bytes=30)
        waiting = asyncio.create_task(deployment.ask(ONLINE))
        await asyncio.sleep(0.01)
        with pytest.raises(ResourceExhausted, match="as many as it may"):
            await deployment.ask(ONLINE)
        release.set()
        await waiting
        await deployment.close()

    asyncio.run(run())


def test_a_request_under_which_a_worker_crashes_is_not_tried_on_the_next_one(tmp_path):
    async def run():
        pool = FakePool()
        deployment = serve(pool, tmp_path)
        await deployment.start()
        worker = pool.loaded[0]

        async def crash(request):
            worker.has_crashed = True
            worker.closed.set()
            raise Unavailable("The worker stopped.")

        worker.ask = crash
        with pytest.raises(Unavailable, match="The worker stopped"):
            await deployment.ask(ONLINE)
        assert b"predictions" in (await deployment.ask(ONLINE)).payload
        assert pool.loaded[1].requests == [RequestKind.ONLINE]
        await deployment.close()

    asyncio.run(run())


def test_a_worker_that_answers_nothing_is_killed_and_replaced(tmp_path):
    async def run():
        pool = FakePool()
        deployment, _release = await start_slow(pool, tmp_path, deadline_seconds=0.05)
        with pytest.raises(DeadlineExceeded):
            await deployment.ask(ONLINE)
        assert b"predictions" in (await deployment.ask(ONLINE)).payload
        assert [worker.closed.is_set() for worker in pool.loaded] == [True, False]
        await deployment.close()

    asyncio.run(run())


def test_a_version_whose_worker_is_killed_while_it_loads_is_loaded_once_more(tmp_path):
    async def run():
        pool = FakePool()
        load, kills = pool.load, [Unavailable("The worker of m/v stopped; try again.")]

        async def killed(name, directory):
            if kills:
                raise kills.pop()
            return await load(name, directory)

        pool.load = killed
        deployment = serve(pool, tmp_path)
        await deployment.start()
        assert b"predictions" in (await deployment.ask(ONLINE)).payload
        await deployment.close()

    asyncio.run(run())


def test_a_worker_that_answers_no_chunk_of_a_batch_is_killed(tmp_path):
    async def run():
        pool = FakePool()
        deployment, _release = await start_slow(pool, tmp_path, chunk_seconds=0.05)
        with pytest.raises(DeadlineExceeded, match="part of the batch in 0.05 s"):
            await deployment.ask(BATCH)
        assert b"served_by" in (await deployment.ask(ONLINE)).payload
        assert [worker.closed.is_set() for worker in pool.loaded] == [True, False]
        await deployment.close()

    asyncio.run(run())


def test_a_chunk_of_a_batch_waits_for_a_worker_that_answers_others(tmp_path):
    async def run():
        pool = FakePool()
        deployment, release = await start_slow(pool, tmp_path, chunk_seconds=0.02)
        pool.loaded[0].last_reply = float("inf")
        asyncio.get_running_loop().call_later(0.2, release.set)
        assert (await deployment.ask(replace(BATCH, payload=b'"x"'))).count == 1
        assert not pool.loaded[0].closed.is_set()
        await deployment.close()

    asyncio.run(run())


def test_a_busy_worker_that_answers_others_is_not_killed(tmp_path):
    async def run():
        pool = FakePool()
        deployment, _release = await start_slow(pool, tmp_path, deadline_seconds=0.05)
        pool.loaded[0].last_reply = float("inf")
        with pytest.raises(DeadlineExceeded):
            await deployment.ask(ONLINE)
        assert not pool.loaded[0].closed.is_set()
        await deployment.close()

    asyncio.run(run())


def test_a_request_over_its_deadline_is_refused(tmp_path):
    async def run():
        deployment, release = await start_slow(FakePool(), tmp_path, deadline_seconds=0.05)
        with pytest.raises(DeadlineExceeded, match=r"m/v did not answer in 0.05 s"):
            await deployment.ask(ONLINE)
        assert deployment.in_flight == 0
        await deployment.close()

    asyncio.run(run())


def test_a_deleted_version_answers_its_open_requests_and_no_more(tmp_path):
    async def run():
        pool = FakePool()
        deployment, release = await start_slow(pool, tmp_path)
        asked = asyncio.create_task(deployment.ask(ONLINE))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(deployment.close())
        await asyncio.sleep(0.02)
        assert not pool.loaded[0].closed.is_set()
        with pytest.raises(Unavailable, match="is not served any more"):
            await deployment.ask(ONLINE)
        release.set()
        assert b"predictions" in (await asked).payload
        await closing
        assert pool.loaded[0].closed.is_set()

    asyncio.run(run())


def test_closing_the_router_ends_every_worker(tmp_path):
    async def run():
        pool, router = FakePool(), Router(num_warm=2)
        for version in ("a", "b"):
            deployment = serve(pool, tmp_path)
            await deployment.start()
            router.add("m", version, deployment)
        await router.close()
        assert [worker.closed.is_set() for worker in pool.loaded] == [True, True]

    asyncio.run(run())


class TestMemory:
    """Each loaded version costs a process, so only defaults and the last used others stay loaded."""

    @staticmethod
    async def retrain(router, pool, directory, *names):
        for name in names:
            deployment = serve(pool, directory, name=f"m/{name}")
            await deployment.start()
            router.add("m", name, deployment)
            router.add_model("m", name)
        await asyncio.sleep(0.05)

    @staticmethod
    def loaded(pool):
        return [worker.name for worker in pool.loaded if not worker.closed.is_set()]

    def test_unused_versions_are_unloaded_except_the_default_and_the_former_default(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            await self.retrain(router, pool, tmp_path, "a", "b", "c", "d")
            assert self.loaded(pool) == ["m/c", "m/d"]
            await router.close()

        asyncio.run(run())

    def test_an_unloaded_version_is_loaded_by_a_request(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=1)
            await self.retrain(router, pool, tmp_path, "a", "b", "c", "d")
            assert self.loaded(pool) == ["m/b", "m/c", "m/d"]
            answer = await router.find("m", "a").ask(ONLINE)
            await asyncio.sleep(0.05)
            assert b"predictions" in answer.payload
            assert sorted(self.loaded(pool)) == ["m/a", "m/c", "m/d"]
            await router.close()

        asyncio.run(run())

    def test_an_unloaded_version_that_becomes_the_default_is_loaded_at_once(self, tmp_path):
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

            async def slow(request):
                await release.wait()
                return await FakeWorker("m/a").ask(request)

            pool.loaded[0].ask = slow
            asking = asyncio.create_task(busy.ask(ONLINE))
            await asyncio.sleep(0.02)
            await self.retrain(router, pool, tmp_path, "b", "c")
            assert not pool.loaded[0].closed.is_set()
            release.set()
            assert b"predictions" in (await asking).payload
            await router.close()

        asyncio.run(run())

    def test_the_former_default_stays_loaded_for_a_rollback(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            await self.retrain(router, pool, tmp_path, "a", "b")
            router.add("m", "other", other := serve(pool, tmp_path, name="m/other"))
            await other.ask(ONLINE)
            router.add_model("m", "b")
            await asyncio.sleep(0.05)
            assert self.loaded(pool) == ["m/a", "m/b"]
            await router.close()

        asyncio.run(run())


class TestNodes:
    """`autoScaling.minNodes`: 0 loads on demand, 1 and more stay loaded whatever else there is."""

    loaded = staticmethod(TestMemory.loaded)

    def test_without_nodes_a_version_is_loaded_on_demand_and_unloaded_when_idle(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=2)
            router.add_model("m", "v")
            router.add("m", "v", deployment := serve(pool, tmp_path, min_nodes=0, idle_seconds=0.05))
            await asyncio.sleep(0.02)
            assert self.loaded(pool) == []
            for _ in range(2):
                await router.find("m").ask(ONLINE)
                assert self.loaded(pool) == ["m/v"]
                await asyncio.sleep(0.12)
                assert self.loaded(pool) == []
            assert not deployment.is_loaded
            await router.close()

        asyncio.run(run())

    def test_nodes_keep_a_version_loaded_that_is_not_the_default(self, tmp_path):
        async def run():
            pool, router = FakePool(), Router(num_warm=0)
            router.add_model("m", "v")
            router.add("m", "v", serve(pool, tmp_path))
            router.add("m", "other", serve(pool, tmp_path, name="m/other", min_nodes=1))
            await asyncio.sleep(0.05)
            assert sorted(self.loaded(pool)) == ["m/other", "m/v"]
            router.configure("m", "other", scaled_to(None))
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
            router.configure("m", "v", scaled_to(0))
            await asyncio.sleep(0.08)
            assert self.loaded(pool) == []
            router.configure("m", "v", scaled_to(1))
            await asyncio.sleep(0.05)
            assert self.loaded(pool) == ["m/v"]
            await router.close()

        asyncio.run(run())


def test_a_version_is_loaded_again_after_an_exception_that_nobody_foresaw(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.engine.serving.deployment.RETRY_SECONDS", (0.0,))

    async def run():
        pool = FakePool()
        deployment, load = serve(pool, tmp_path), pool.load

        async def fail(name, directory):
            pool.load = load
            raise OSError(24, "Too many open files")

        pool.load = fail
        answer = await deployment.ask(ONLINE)
        await deployment.close()
        return answer

    assert b"served_by" in asyncio.run(run()).payload
