"""Long-running changes of models and versions: a row each, finished by a task of the event loop."""

from __future__ import annotations

import asyncio
import logging
import uuid
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from functools import partial
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.engine.store import OperationRow, Store, now
from pipeline.engine.supervision import supervise
from pipeline.engine.v1.errors import as_api_error, operation_error
from pipeline.engine.v1.paging import Page
from pipeline.engine.v1.resources import model_path, version_path
from pipeline.engine.v1.responses import (
    Empty,
    Model,
    Operation,
    OperationList,
    OperationMetadata,
    Status,
    Version,
    VersionName,
)
from pipeline.engine.v1.shortages import engine_failed
from pipeline.errors import Cancelled, DatabaseUnavailable, Internal, NotFound, PipelineError
from pipeline.types import JsonValue

log = logging.getLogger(__name__)

METADATA_TYPE = "type.googleapis.com/google.cloud.ml.v1.OperationMetadata"
EMPTY: dict[str, JsonValue] = {"@type": "type.googleapis.com/google.protobuf.Empty"}
Response: TypeAlias = Version | Model | None  # of an operation; None is an `Empty`
Work = Callable[[OperationRow], Awaitable[Response]]
Result = TypeVar("Result")


class OperationType(StrEnum):
    """What an operation does; the value is the spelling on the wire."""

    CREATE_VERSION = "CREATE_VERSION"
    UPDATE_VERSION = "UPDATE_VERSION"
    DELETE_VERSION = "DELETE_VERSION"
    UPDATE_MODEL = "UPDATE_MODEL"
    DELETE_MODEL = "DELETE_MODEL"


def project_number(project: str) -> str:
    """Return the number of a project, computed from its name: v1 has one, this engine assigns none."""
    return str(10**11 + zlib.crc32(project.encode()))


def _to_json(response: Response) -> dict[str, JsonValue]:
    return EMPTY if response is None else response.to_json()


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
        self.before_end: Callable[[], Awaitable[None]] | None = None

    def resource(self, operation: OperationRow) -> Operation:
        """Return the v1 resource."""
        version = None
        if operation.version:
            version = VersionName(name=version_path(self._project, operation.model, operation.version))
        metadata = OperationMetadata(
            type_url=METADATA_TYPE,
            create_time=operation.create_time,
            start_time=operation.create_time,
            operation_type=operation.kind,
            model_name=model_path(self._project, operation.model),
            project_number=project_number(self._project),
            end_time=operation.end_time,
            version=version,
            labels=operation.labels or None,
            is_cancellation_requested=operation.is_cancellation_requested or None,
        )
        return Operation(
            name=f"projects/{self._project}/operations/{operation.operation_id}",
            metadata=metadata,
            done=True if operation.done else None,
            error=operation.error,
            response=None if operation.error or not operation.done else operation.response or EMPTY,
        )

    def begin(
        self,
        session: Session,
        kind: OperationType,
        model: str,
        version: str | None = None,
        *,
        labels: dict[str, str] | None = None,
    ) -> OperationRow:
        """Record an operation that begins."""
        operation = OperationRow(
            operation_id=f"{kind.lower()}_{model}_{uuid.uuid4().hex[:16]}",
            kind=kind,
            model=model,
            version=version,
            labels=labels or None,
            is_cancellation_requested=False,
            done=False,
            error=None,
            response=None,
            create_time=now(),
            end_time=None,
        )
        session.add(operation)
        return operation

    def end(self, operation: OperationRow, response: Response = None) -> Operation:
        """End an operation within the request that began it; return its v1 resource."""
        operation.done, operation.response, operation.end_time = True, _to_json(response), now()
        return self.resource(operation)

    def get(self, name: str) -> Operation:
        """Return one operation."""
        with self._store.begin() as session:
            return self.resource(_find(session, name))

    def cancel(self, name: str) -> Empty:
        """Request the cancellation of an operation; only the loading of a model can be cancelled.

        An operation that has ended stays as it is, and a deletion runs to its end.
        """
        with self._store.begin() as session:
            operation = _find(session, name)
            if operation.done:
                return Empty()
            operation.is_cancellation_requested = True
        if task := self._cancellable.get(name):
            task.cancel()
        return Empty()

    async def cancellable(self, operation: OperationRow, work: Coroutine[None, None, Result]) -> Result:
        """Await a part of an operation's work that a client may cancel.

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

    def unfinished(self) -> list[OperationRow]:
        """Return the operations that were open when the engine stopped, oldest first."""
        with self._store.begin() as session:
            return list(
                session.scalars(select(OperationRow).filter_by(done=False).order_by(OperationRow.seq))
            )

    def list(self, page: Page) -> OperationList:
        """Return the operations, newest first."""
        with self._store.begin() as session:
            rows = session.scalars(page.descending(select(OperationRow), OperationRow.seq)).all()
        operations, token = page.select(rows, self.resource)
        return OperationList(operations=operations, next_page_token=token)

    def spawn(self, operation: OperationRow, work: Work) -> None:
        """Run the work in the background, and finish the operation with its result or its error."""
        task = asyncio.create_task(supervise("operation", partial(self._run, operation, work)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, operation: OperationRow, work: Work) -> None:
        try:
            finish = partial(self._finish, operation, response=_to_json(await work(operation)))
        except DatabaseUnavailable:
            raise  # the work is repeated
        except PipelineError as error:
            finish = partial(self._finish, operation, error=operation_error(as_api_error(error)))
        except Exception as error:  # the edge of the task
            log.exception("Operation %s failed.", operation.operation_id)
            failure = operation_error(Internal(engine_failed(error)))
            finish = partial(self._finish, operation, error=failure)
        if self.before_end:
            await self.before_end()
        await self._store.retry(finish)

    def _finish(
        self,
        operation: OperationRow,
        *,
        response: dict[str, JsonValue] | None = None,
        error: Status | None = None,
    ) -> None:
        with self._store.begin() as session:
            row = session.get_one(OperationRow, operation.seq)
            row.done, row.response, row.end_time = True, response, now()
            row.error = error.to_json() if error else None

    async def stop(self) -> None:
        """Stop working; the next start resumes the open operations."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _find(session: Session, name: str) -> OperationRow:
    operation = session.scalar(select(OperationRow).filter_by(operation_id=name))
    if operation is None:
        raise NotFound("The specified operation was not found.", field="name")
    return operation
