"""Long-running changes of models and versions: a row each, finished by a task of the event loop."""

from __future__ import annotations

import asyncio
import logging
import uuid
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.engine.store import Operation, Store, now
from pipeline.engine.v1.errors import as_api_error, operation_error
from pipeline.engine.v1.paging import Page
from pipeline.engine.v1.resources import model_path, version_path
from pipeline.errors import Cancelled, Internal, NotFound, PipelineError

log = logging.getLogger(__name__)

METADATA_TYPE = "type.googleapis.com/google.cloud.ml.v1.OperationMetadata"
EMPTY = {"@type": "type.googleapis.com/google.protobuf.Empty"}
Work = Callable[[Operation], Awaitable[dict[str, Any]]]
Result = TypeVar("Result")


def project_number(project: str) -> str:
    """Return the number of a project: the same for the same name, as there is nobody to give one out."""
    return str(10**11 + zlib.crc32(project.encode()))


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
        self._cancellable: dict[str, asyncio.Task[Any]] = {}

    def to_wire(self, operation: Operation) -> dict[str, Any]:
        """Return the v1 resource."""
        metadata: dict[str, Any] = {
            "@type": METADATA_TYPE,
            "createTime": operation.create_time,
            "startTime": operation.create_time,
            "operationType": operation.kind,
            "modelName": model_path(self._project, operation.model),
            "projectNumber": project_number(self._project),
        }
        if operation.end_time:
            metadata["endTime"] = operation.end_time
        if operation.version:
            metadata["version"] = {"name": version_path(self._project, operation.model, operation.version)}
        if operation.labels:
            metadata["labels"] = operation.labels
        if operation.is_cancellation_requested:
            metadata["isCancellationRequested"] = True
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

    def add(
        self,
        session: Session,
        kind: str,
        model: str,
        version: str | None,
        *,
        labels: dict[str, str] | None = None,
        response: dict[str, Any] | None = None,
    ) -> Operation:
        """Record an operation that begins; one with a response has ended already."""
        operation = Operation(
            operation_id=f"{kind.lower()}_{model}_{uuid.uuid4().hex[:16]}",
            kind=kind,
            model=model,
            version=version,
            labels=labels or None,
            is_cancellation_requested=False,
            done=response is not None,
            error=None,
            response=response,
            create_time=now(),
            end_time=None if response is None else now(),
        )
        session.add(operation)
        return operation

    def get(self, name: str) -> dict[str, Any]:
        """Return one operation."""
        with self._store.begin() as session:
            return self.to_wire(_find(session, name))

    def cancel(self, name: str) -> dict[str, Any]:
        """Ask an operation to end, which it does if what it waits for can be given up.

        One that has ended stays as it is, and so does a deletion: what is deleted is gone.
        """
        with self._store.begin() as session:
            operation = _find(session, name)
            if operation.done:
                return {}
            operation.is_cancellation_requested = True
        if task := self._cancellable.get(name):
            task.cancel()
        return {}

    async def cancellable(self, operation: Operation, work: Coroutine[Any, Any, Result]) -> Result:
        """Do a part of an operation's work that a client may cancel.

        Raises:
            Cancelled: if a client did.
        """
        name = operation.operation_id
        task = asyncio.create_task(work)
        self._cancellable[name] = task
        try:
            with self._store.begin() as session:
                if _find(session, name).is_cancellation_requested:
                    task.cancel()
            await asyncio.wait([task])
        finally:
            del self._cancellable[name]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            raise Cancelled("The operation was cancelled by a client.")
        return task.result()

    def unfinished(self) -> list[Operation]:
        """Return what an earlier life of the engine left open, oldest first."""
        with self._store.begin() as session:
            return list(session.scalars(select(Operation).filter_by(done=False).order_by(Operation.seq)))

    def list(self, page: Page) -> dict[str, Any]:
        """Return the operations, newest first."""
        with self._store.begin() as session:
            rows = session.scalars(page.descending(select(Operation), Operation.seq)).all()
        return page.answer("operations", rows, self.to_wire)

    def spawn(self, operation: Operation, work: Work) -> None:
        """Do the work in the background and finish the operation with its result or its error."""
        task = asyncio.create_task(self._run(operation, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, operation: Operation, work: Work) -> None:
        try:
            self.finish(operation, response=await work(operation))
        except PipelineError as error:
            self.finish(operation, error=operation_error(as_api_error(error)))
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


def _find(session: Session, name: str) -> Operation:
    operation = session.scalar(select(Operation).filter_by(operation_id=name))
    if operation is None:
        raise NotFound("The specified operation was not found.", field="name")
    return operation
