"""Pictures that people add to a classifier: a form for each class, an archive, and earlier uploads."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, Response, StreamingResponse

from graft.ui import access
from graft.ui.actions import read_form, text_of
from graft.ui.page_context import PageContext, PageContextDep
from graft.ui.pages import common
from graft.ui.rendering import JSON, render
from pipeline.config import Settings
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.preprocess.uploads import NewPicture, UploadResult

router = APIRouter()
actions = APIRouter(dependencies=[Depends(access.require_same_site)])
MAX_FILES = 100  # of one request
MAX_UPLOAD_BYTES = 64_000_000
MAX_ARCHIVE_BYTES = 4_000_000_000
ARCHIVE = "archive"
DECODERS = CapacityLimiter(2)  # requests that decode at the same time: a picture takes up to 350 MB


@router.get("/classifiers/{name}/add")
def add(request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep) -> Response:
    """The forms that add pictures."""
    return _render(request, user, name, page_context, None)


@router.get("/classifiers/{name}/add/known")
def digests(name: access.Writable, page_context: PageContextDep) -> JSONResponse:
    """The digests of what was uploaded, by label: a browser need not send it again."""
    from pipeline.pages.uploads import read_digests

    return JSONResponse(read_digests(page_context.cache, name))


@actions.post("/classifiers/{name}/add")
async def add_pictures(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep
) -> Response:
    """Keep pictures of one class."""
    form = await _read_upload(request, user, MAX_UPLOAD_BYTES, MAX_FILES)
    try:
        files = [each for each in form.getlist("pictures") if isinstance(each, UploadFile) and each.filename]
        if not files:
            raise HTTPException(400, "Choose a picture first.")
        keep = partial(_keep, page_context, name, text_of(form, "label"), files, str(user.get_name()))
        result = await run_sync(keep, limiter=DECODERS)
    finally:
        await form.close()
    if request.headers.get("accept") == JSON:
        return JSONResponse(result)
    return await run_in_threadpool(_render, request, user, name, page_context, result)


@actions.post("/classifiers/{name}/add/archive")
async def add_archive(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep
) -> Response:
    """Keep the pictures of a zip or tar by its class folders; a script is told of each batch."""
    from pipeline.pages import uploads

    form = await _read_upload(request, user, MAX_ARCHIVE_BYTES, 1)
    try:
        directory = await run_in_threadpool(_keep_file, form.get("archive"))
    finally:
        await form.close()
    path = Path(directory.name) / ARCHIVE
    batches = uploads.add_archive(page_context.cache, name, path, by=str(user.get_name()))
    if request.headers.get("accept") == JSON:
        return StreamingResponse(_tell(batches, name, directory), media_type="application/x-ndjson")
    with directory:
        result = await run_sync(partial(_add_up, batches, name), limiter=DECODERS)
    return await run_in_threadpool(_render, request, user, name, page_context, result)


async def _read_upload(request: Request, user: GetUserDep, limit: int, max_files: int) -> FormData:
    try:
        return await read_form(request, user, limit, max_files=max_files)
    except OSError as error:
        raise HTTPException(507, f"The server cannot hold the upload: {error.strerror}.") from error


def _keep(
    page_context: PageContext, name: str, label: str, files: list[UploadFile], by: str
) -> dict[str, Any]:
    from pipeline.pages import uploads

    result = uploads.add_pictures(page_context.cache, name, label, _read(files), by=by)
    return _describe(result, name)


def _read(files: list[UploadFile]) -> Iterator[NewPicture]:
    from pipeline.preprocess.uploads import MAX_PICTURE_BYTES, NewPicture

    for each in files:
        yield NewPicture(name=each.filename or "", data=each.file.read(MAX_PICTURE_BYTES + 1))


def _keep_file(archive: UploadFile | str | None) -> tempfile.TemporaryDirectory[str]:
    """Copy an uploaded archive, which ends with its request, into a directory of its own."""
    if not isinstance(archive, UploadFile) or not archive.filename:
        raise HTTPException(400, "Choose a zip or tar first.")
    directory = tempfile.TemporaryDirectory(prefix="graft-archive-")
    try:
        with Path(directory.name, ARCHIVE).open("wb") as target:
            shutil.copyfileobj(archive.file, target)
    except OSError as error:
        directory.cleanup()
        raise HTTPException(507, f"The server cannot hold the upload: {error.strerror}.") from error
    return directory


def _add_up(batches: Iterator[UploadResult], name: str) -> dict[str, Any]:
    from pipeline.preprocess.uploads import UploadResult

    total = UploadResult()
    for each in batches:
        total.add(each)
    return _describe(total, name)


async def _tell(
    batches: Iterator[UploadResult], name: str, directory: tempfile.TemporaryDirectory[str]
) -> AsyncIterator[str]:
    """Yield what each batch did as a line of JSON, and what went wrong as the last one."""
    with directory:
        try:
            while (result := await run_sync(next, batches, None, limiter=DECODERS)) is not None:
                yield json.dumps(asdict(result)) + "\n"
            problem = await run_in_threadpool(_add_source, name)
        except PipelineError as error:
            problem = error.message
        yield json.dumps({"problem": problem}) + "\n"


def _describe(result: UploadResult, name: str) -> dict[str, Any]:
    problem = _add_source(name) if result.added or result.known else ""
    return {**asdict(result), "problem": problem}


def _add_source(name: str) -> str:
    from pipeline.pages.appended_source import add_source

    return add_source(name, "uploads", Settings())


def _render(
    request: Request, user: GetUserDep, name: str, page_context: PageContext, result: dict[str, Any] | None
) -> Response:
    from pipeline.pages.uploads import view_uploads

    values = {"view": view_uploads(page_context.cache, name, Settings()), "result": result}
    return render(request, "add.html", {**common(request, user, name, "add"), **values})
