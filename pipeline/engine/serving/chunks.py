"""Chunks of a batch prediction: each has a deadline, which only a worker that answers nothing can miss."""

from __future__ import annotations

import asyncio

from pipeline.engine.serving.messages import WorkerReply, WorkerRequest
from pipeline.engine.serving.pool import ModelWorker
from pipeline.errors import DeadlineExceeded


async def ask_chunk(name: str, worker: ModelWorker, request: WorkerRequest, seconds: float) -> WorkerReply:
    """Pass a chunk of a batch to a worker; one that answers nothing for too long is killed.

    A worker that answers online predictions meanwhile is busy, not stuck: the chunk goes on waiting.

    Raises:
        DeadlineExceeded: if the worker was killed.
    """
    loop = asyncio.get_running_loop()
    reply = asyncio.ensure_future(worker.ask(request))
    try:
        while True:
            began = loop.time()
            done, _ = await asyncio.wait([reply], timeout=seconds)
            if done:
                return reply.result()
            if worker.kill_if_silent(began):
                raise DeadlineExceeded(
                    f"{name} did not answer a part of the batch in {seconds:g} s. Choose a smaller "
                    "batchSize, or raise GRAFT_ENGINE_BATCH_CHUNK_SECONDS."
                )
    finally:
        reply.cancel()
        await asyncio.gather(reply, return_exceptions=True)
