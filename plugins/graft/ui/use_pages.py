"""*Use it*: programs that ask a classifier from outside, and its versions as files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from threading import Lock

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from graft.ui import access
from graft.ui.page_context import PageContext, PageContextDep
from graft.ui.pages import VersionQuery, common
from graft.ui.rendering import render
from pipeline.errors import PlatformError
from pipeline.export.formats import DESCRIPTIONS, ExportFormat
from pipeline.ml_engine.protocol import default_version
from pipeline.pages.snippets import write_snippets

router = APIRouter()
EXPORTING = Lock()  # an export takes seconds of a processor and up to a gigabyte


@router.get("/classifiers/{name}/use")
def use_it(
    request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep
) -> Response:
    """Programs that ask the classifier, what they may send, and its versions as files."""
    endpoint, project = page_context.endpoint()
    serving, problem = _find_serving(page_context, name)
    bucket = page_context.cache.workspace.uri
    values = {
        "snippets": write_snippets(endpoint, project=project, model=name, bucket=bucket),
        "problem": problem,
        "serving": serving,
        "formats": DESCRIPTIONS,
    }
    return render(request, "use.html", {**common(request, user, name, "use"), **values})


def _find_serving(page_context: PageContext, name: str) -> tuple[str | None, str | None]:
    """Return the version that serves, and the error if the engine does not answer."""
    try:
        with page_context.engine() as engine:
            return default_version(engine.get_model(name)), None
    except PlatformError as error:
        return None, str(error)


@router.get("/classifiers/{name}/export", dependencies=[Depends(access.require_same_site)])
def export(
    name: access.Writable, page_context: PageContextDep, format: ExportFormat, version: VersionQuery
) -> Response:
    """A version as a zip; one at a time, since each takes a processor."""
    from pipeline.export.archive import export_version

    if not EXPORTING.acquire(blocking=False):
        raise HTTPException(429, "Another export is being made; try again in a minute.")
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name, f"{name}-{version}-{format.value}.zip")
    try:
        export_version(page_context.cache.workspace, model=name, version=version, format=format, file=file)
    except BaseException:
        folder.cleanup()
        raise
    finally:
        EXPORTING.release()
    return FileResponse(
        file, media_type="application/zip", filename=file.name, background=BackgroundTask(folder.cleanup)
    )
