"""Long-running changes of models and versions: a row each, finished by a task of the event loop."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.engine.errors import as_fault, operation_error
from pipeline.engine.resources import model_path, version_path
from pipeline.engine.store import Operation, Store, now
from pipeline.errors import Internal, NotFound, PipelineError

log = logging.getLogger(__name__)

METADATA_TYPE = "type.googleapis.com/google.cloud.ml.v1.OperationMetadata"
EMPTY = {"@type": "type.googleapis.com/google.protobuf.Empty"}
Work = Callable[[Operation], Awaitable[dict[str, Any]]]


class Operations:
    """The operations of one project.

    Args:
        store: The database.
        project: The project in resource names.
    """

    def __init__(self, store: Store, project: str) -> None:
        self._store = store
        self._project = project
        self._tasks: set[asyncio.Task[None]] = set()

    def to_wire(self, operation: Operation) -> dict[str, Any]:
        """Return the v1 resource."""
        metadata: dict[str, Any] = {
            "@type": METADATA_TYPE,
            "createTime": operation.create_time,
            "startTime": operation.create_time,
            "operationType": operation.kind,
            "modelName": model_path(self._project, operation.model),
        }
        if operation.end_time:
            metadata["endTime"] = operation.end_time
        if operation.version:
            metadata["version"] = {"name": version_path(self._project, operation.model, operation.version)}
        wire: dict[str, Any] = {
            "name": f"projects/{self._project}/operations/{operation.operation_id}",
            "metadata": metadata,
        }
        if operation.done:
            outcome = (
                {"error": operation.error} if operation.error else {"response": operation.response or EMPTY}
            )
            wire |= {"done": True, **outcome}
        return wire

    def add(self, session: Session, kind: str, model: str, version: str | None) -> Operation:
        """Record an operation that begins."""
        operation = Operation(
            operation_id=f"{kind.lower()}_{model}_{uuid.uuid4().hex[:16]}",
            kind=kind,
            model=model,
            version=version,
            done=False,
            error=None,
            response=None,
            create_time=now(),
            end_time=None,
        )
        session.add(operation)
        return operation

    def get(self, name: str) -> dict[str, Any]:
        """Return one operation.

        Raises:
            NotFound: if there is none.
        """
        with self._store.begin() as session:
            operation = session.scalar(select(Operation).filter_by(operation_id=name))
        if operation is None:
            raise NotFound("The specified operation was not found.", field="name")
        return self.to_wire(operation)

    def unfinished(self) -> list[Operation]:
        """Return what an earlier life of the engine left open, oldest first."""
        with self._store.begin() as session:
            return list(session.scalars(select(Operation).filter_by(done=False).order_by(Operation.seq)))

    def spawn(self, operation: Operation, work: Work) -> None:
        """Do the work in the background and finish the operation with its result or its error."""
        task = asyncio.create_task(self._run(operation, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, operation: Operation, work: Work) -> None:
        try:
            self.finish(operation, response=await work(operation))
        except PipelineError as error:
            self.finish(operation, error=operation_error(as_fault(error)))
        except Exception:  # the edge of the task
            log.exception("Operation %s failed.", operation.operation_id)
            self.finish(operation, error=operation_error(Internal("The engine failed; see its log.")))

    def finish(
        self,
        operation: Operation,
        *,
        response: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        """Record how an operation ended."""
        with self._store.begin() as session:
            row = session.get_one(Operation, operation.seq)
            row.done, row.response, row.error, row.end_time = True, response, error, now()

    async def stop(self) -> None:
        """Leave what is not finished to the next life of the engine."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
