"""The magics: mark cells, run them here or as a job of ML Engine, look after jobs."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from IPython.core.magic import Magics, cell_magic, line_cell_magic, line_magic, magics_class

from pipeline.errors import NotebookError, PipelineError
from pipeline.ml_engine.resources import Job
from pipeline.notebook.arguments import (
    init_arguments,
    one_name,
    read_requirements,
    read_values,
    run_arguments,
)
from pipeline.notebook.collection import Cell, CellCollection, make_cell, read_notebook_order
from pipeline.notebook.connection import Connection, connect
from pipeline.notebook.job import NotebookJob, new_job_id, watch
from pipeline.notebook.lists import CellList, JobList
from pipeline.notebook.package import MODULE, build_cell_package
from pipeline.notebook.pipeline import Run, graft_run
from pipeline.notebook.source import check_names
from pipeline.submission.package import upload_package
from pipeline.submission.staged_head import StagedHead, stage_head_text

LABEL = {"made_by": "notebook"}
LISTED = 20


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show our own errors as one line: their traceback is of no use to a notebook."""
    try:
        yield
    except PipelineError as error:
        text = f"{type(error).__name__}: {error}"
        error.__dict__["_render_traceback_"] = lambda: [text]
        raise


class CellFailed(Exception):
    """A marked cell failed here; IPython has shown how."""

    def _render_traceback_(self) -> list[str]:
        return []


@magics_class
class MLMagics(Magics):
    """The article's magics on today's ML Engine.

    Args:
        shell: The kernel's IPython.
    """

    def __init__(self, shell: Any) -> None:
        super().__init__(shell=shell)
        self._ipython = shell
        self.cells = CellCollection()
        self.settings = init_arguments().read("")
        self.install_requires: list[str] = []
        self.last_job: NotebookJob | None = None
        self.heads: dict[str, StagedHead] = {}
        self._cell_id: str | None = None
        shell.events.register("pre_run_cell", self._remember_cell)

    def _remember_cell(self, info: Any) -> None:
        self._cell_id = getattr(info, "cell_id", None)

    # Marking and running

    @line_cell_magic
    def ml_init(self, line: str, cell: str | None = None) -> None:
        """Say where jobs run: -projectId, -bucket, -region, -scaleTier, -runtimeVersion; all may be left out.

        Below `%%ml_init` may stand a dict with `install_requires`.
        """
        with plain_errors():
            settings, requires = init_arguments().read(line), read_requirements(cell or "")
            self.settings, self.install_requires = settings, requires

    @line_cell_magic
    def ml_code(self, line: str, cell: str | None = None) -> None:
        """Mark a cell to be packaged, and run it here; run again, it replaces its earlier text."""
        with plain_errors():
            if cell is None:
                raise NotebookError("%ml_code marks no cell; write %%ml_code in its first line.")
            self.cells.add(cell, id=self._cell_id, title=line.strip())
            self._run_here(cell)

    @cell_magic
    def ml_run(self, line: str, cell: str) -> NotebookJob | None:
        """Run a cell here, or with `cloud` as a job together with the marked cells; `-name` names the job."""
        with plain_errors():
            options = run_arguments().read(line)
            if options.where != "cloud":
                self._ipython.user_ns["job_dir"] = tempfile.mkdtemp(prefix="graft-job-dir-")
                self._run_here(cell)
                return None
            job = self._submit(make_cell(cell, id=self._cell_id), options.name)
            self.last_job = job
            return watch(job, ask=self._ask)

    def _run_here(self, cell: str) -> None:
        if not self._ipython.run_cell(cell).success:
            raise CellFailed

    def _ask(self, question: str) -> str:
        return input(question)

    def _submit(self, entry: Cell, name: str | None) -> NotebookJob:
        connection = self._connect()
        code = self._ordered()
        package, args = build_cell_package(code, entry, install_requires=self.install_requires)
        job_id = name or new_job_id(package.digest)
        sys.stdout.write(f"job {job_id}, package {package.digest[:16]}\n")
        uri = upload_package(connection.workspace, package)
        body = self._body(job_id, uri, args, connection.workspace.job(job_id).uri)
        try:
            connection.engine.create_job(body)
        except KeyboardInterrupt:
            connection.engine.cancel_job(job_id)  # it may be there already
            raise
        return NotebookJob(connection, job_id)

    def _body(self, job_id: str, package_uri: str, args: list[str], job_dir: str) -> Job:
        return {
            "jobId": job_id,
            "labels": LABEL,
            "trainingInput": {
                "scaleTier": self.settings.scaleTier,
                "packageUris": [package_uri],
                "pythonModule": MODULE,
                "args": args,
                "region": self.settings.region,
                "runtimeVersion": self.settings.runtimeVersion,
                "jobDir": job_dir,
            },
        }

    def _connect(self) -> Connection:
        return connect(project=self.settings.projectId, bucket=self.settings.bucket)

    def _ordered(self) -> list[Cell]:
        path = self._notebook_file()
        return self.cells.ordered(read_notebook_order(path) if path else None)

    def _notebook_file(self) -> Path | None:
        """Return the notebook's file where the front end tells it: Jupyter's server or VS Code."""
        named: Mapping[str, Any] = self._ipython.user_ns
        session_name = named.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
        path = (
            Path(session_name) if isinstance(session_name, str) and session_name.endswith(".ipynb") else None
        )
        return path if path is not None and path.is_file() else None

    # The pipeline

    @cell_magic
    def ml_head(self, line: str, cell: str) -> None:
        """Build a classifier's head in a cell: a function of feature width and number of classes."""
        with plain_errors():
            name = one_name("%%ml_head", line)
            made = make_cell(cell)
            check_names([("The cell", made.names)])
            connection = self._connect()
            staged = stage_head_text(connection.workspace, cell.encode(), origin="The cell")
            self._run_here(cell)
            self.heads[name] = staged
            sys.stdout.write(
                f"head {staged.digest[:16]} of {name}: `%graft_run {name}` trains with it. To keep it, write "
                f"into the YAML\nmodel: {{head: {{module: {staged.uri}}}}}\n"
            )

    @line_magic
    def graft_run(self, line: str) -> Run:
        """Run a classifier's DAG and show its report: NAME [KEY=VALUE ...]; a head of `%%ml_head` is used."""
        with plain_errors():
            name, *assignments = shlex.split(line) or [""]
            params = read_values(assignments)
            if name in self.heads:
                params = {"model.head.module": self.heads[name].uri} | params
            return graft_run(one_name("%graft_run", name), params)

    # Looking after jobs

    @line_magic
    def ml_status(self, line: str) -> NotebookJob | JobList:
        """Show a job, or with no name the latest ones of the project's notebooks."""
        with plain_errors():
            if line.strip():
                return self._job(line)
            jobs = [job for job in self._connect().engine.list_jobs() if job.get("labels") == LABEL]
            return JobList(jobs[:LISTED])

    @line_magic
    def ml_logs(self, line: str) -> None:
        """Print what a job has printed; the last one of this kernel unless named."""
        with plain_errors():
            sys.stdout.write(self._job(line).log())

    @line_magic
    def ml_cancel(self, line: str) -> NotebookJob:
        """Ask a job to end; the last one of this kernel unless named."""
        with plain_errors():
            job = self._job(line)
            job.cancel()
            return job

    @line_magic
    def ml_fetch(self, line: str) -> NotebookJob:
        """Bring what a job left in `job_dir`; the last one of this kernel unless named."""
        with plain_errors():
            return self._job(line).fetch()

    @line_magic
    def ml_cells(self, line: str) -> CellList:
        """Show which cells a job would get; `%ml_cells clear` forgets them."""
        with plain_errors():
            if line.strip() == "clear":
                self.cells.clear()
            return CellList(self._ordered())

    def _job(self, line: str) -> NotebookJob:
        name = line.strip()
        if name:
            job = NotebookJob(self._connect(), name)
        elif self.last_job is not None:
            job = self.last_job
        else:
            raise NotebookError(
                "This kernel has started no job; name one. `%ml_status` lists those of earlier kernels."
            )
        job.describe()
        return job
