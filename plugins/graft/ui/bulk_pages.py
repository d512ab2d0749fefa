"""Many pictures at once: what a person sends, and a CSV that comes back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.api_fastapi.core_api.security import GetUserDep
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response, StreamingResponse

from graft.ui import access
from graft.ui.actions import read_form
from graft.ui.page_context import PageContext, PageContextDep
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.pages.bulk import UploadedFiles

actions = APIRouter(dependencies=[Depends(access.require_same_site)])
MAX_FILES = 2_000  # of one request
MAX_BYTES = 512_000_000
PREDICTORS = CapacityLimiter(2)  # requests that read pictures at the same time


@actions.post("/classifiers/{name}/predictions")
async def predict(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep
) -> Response:
    """Ask the serving version about many pictures; the answer is the CSV of `graft predict --out`."""
    try:
        form = await read_form(request, user, MAX_BYTES, max_files=MAX_FILES)
        files = await run_in_threadpool(_keep_files, form)
        await form.close()
    except OSError as error:
        raise HTTPException(507, f"The server cannot hold the upload: {error.strerror}.") from error
    try:
        version = await run_in_threadpool(_find_version, page_context, name)
    except PipelineError:
        files.directory.cleanup()
        raise
    headers = {"content-disposition": f'attachment; filename="{name}-{version}.csv"'}
    rows = _stream(_predict(page_context, name, version, files))
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=headers)


def _keep_files(form: FormData) -> UploadedFiles:
    """Copy what was sent, which ends with its request, into a directory; names are not used there."""
    from pipeline.pages.bulk import UploadedFiles

    sent = [each for each in form.getlist("pictures") if isinstance(each, UploadFile) and each.filename]
    if not sent:
        raise HTTPException(400, "Choose pictures first.")
    files = UploadedFiles(directory=tempfile.TemporaryDirectory(prefix="graft-predict-"))
    try:
        for number, each in enumerate(sent):
            path = Path(files.directory.name, str(number))
            with path.open("wb") as target:
                shutil.copyfileobj(each.file, target)
            files.paths.append((each.filename or "", path))
    except OSError:
        files.directory.cleanup()
        raise
    return files


def _find_version(page_context: PageContext, name: str) -> str:
    from pipeline.bulk.answers import find_version

    with page_context.engine() as engine:
        return find_version(engine, name)


def _predict(page_context: PageContext, name: str, version: str, files: UploadedFiles) -> Iterator[str]:
    from pipeline.pages.bulk import predict_files

    with page_context.engine() as engine:
        yield from predict_files(page_context.cache, engine, name, version, files)


async def _stream(rows: Iterator[str]) -> AsyncIterator[str]:
    while (text := await run_sync(partial(next, rows, None), limiter=PREDICTORS)) is not None:
        yield text
