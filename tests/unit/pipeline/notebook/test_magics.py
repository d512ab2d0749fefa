"""The magics in a real IPython, on an engine in memory."""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import JobConflict, JobFailed, JobResultError, NotebookError, PlatformError
from pipeline.notebook import load_ipython_extension
from pipeline.notebook.job import NotebookJob
from tests.unit.pipeline.notebook.conftest import Kernel

IMPORT, DEFINE, USE = (
    "%%ml_code\nimport math",
    "%%ml_code\ndef f(x):\n    return math.sqrt(x)",
    "%%ml_code\nr = f(4)",
)
RUN = "%%ml_run cloud\nf(r)"


def cells_of(kernel: Kernel) -> list[str]:
    """Return the texts of a job's cells in the order in which they run."""
    data = kernel.storage.read_bytes(kernel.package())
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        texts = {
            Path(member.name).stem: archive.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in archive.getmembers()
            if "/trainer/cells/cell_" in member.name
        }
    args = kernel.jobs[-1]["trainingInput"]["args"]
    assert args[0] == "--cells"
    assert set(args[1:]) == set(texts)
    return [texts[name] for name in args[1:]]


class TestInit:
    def test_the_articles_line_and_dict_reach_the_job(self, kernel: Kernel) -> None:
        kernel.run(
            "%%ml_init -projectId P -bucket B -scaleTier BASIC_GPU -region asia-east1 -runtimeVersion 2.21\n"
            "{'install_requires': ['keras', 'h5py', 'Pillow']}"
        )
        kernel.run("%%ml_run cloud\n1 + 1")
        given = kernel.jobs[0]["trainingInput"]
        assert (given["scaleTier"], given["region"]) == ("BASIC_GPU", "asia-east1")
        assert (given["pythonModule"], given["runtimeVersion"]) == ("trainer.task", "2.21")
        data = kernel.storage.read_bytes(kernel.package())
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            setup = archive.extractfile("trainer-0.0.0/setup.py").read()  # type: ignore[union-attr]
        assert b"install_requires=['Pillow', 'h5py', 'keras']" in setup

    @pytest.mark.parametrize("body", ["{'install_requires': __import__('os')}", "[1]", "{'x': []}", "{"])
    def test_only_a_dict_of_literals_is_read(self, kernel: Kernel, body: str) -> None:
        kernel.fails(f"%%ml_init\n{body}", NotebookError, "install_requires")

    def test_an_unknown_option_is_told_with_the_known_ones(self, kernel: Kernel) -> None:
        kernel.fails("%ml_init -nonsense 1", NotebookError, r"unrecognized arguments.*-runtimeVersion")


class TestCollecting:
    def test_marked_cells_run_here_and_only_they_are_packaged(self, kernel: Kernel) -> None:
        kernel.run("secret = 1")
        for text in (IMPORT, DEFINE, USE, RUN):
            kernel.run(text)
        assert kernel.shell.user_ns["r"] == 2
        assert [text.split("\n")[0] for text in cells_of(kernel)] == [
            "import math",
            "def f(x):",
            "r = f(4)",
            "_ml_result = (f(r))",
        ]

    def test_a_cell_run_again_replaces_its_earlier_text(self, kernel: Kernel) -> None:
        kernel.run("%%ml_code\nx = 1", cell_id="a")
        kernel.run("%%ml_code\ny = 1", cell_id="b")
        kernel.run("%%ml_code\nx = 2", cell_id="a")
        kernel.run("%%ml_run cloud\nx + y", cell_id="c")
        assert [text.strip() for text in cells_of(kernel)] == ["x = 2", "y = 1", "_ml_result = (x + y)"]

    def test_without_ids_a_cell_is_known_by_what_it_defines(self, kernel: Kernel) -> None:
        kernel.run("%%ml_code\ndef f(): return 1")
        kernel.run("%%ml_code\nx = f()")
        kernel.run("%%ml_code\nx = x + 1")  # changes what another cell made: a cell of its own
        kernel.run("%%ml_code\ndef f(): return 2\ndef g(): return 3")
        kernel.run("%%ml_run cloud\nx")
        assert [text.split()[0:2] for text in cells_of(kernel)][:3] == [
            ["def", "f():"],
            ["x", "="],
            ["x", "="],
        ]
        assert "return 2" in cells_of(kernel)[0]
        assert len(cells_of(kernel)) == 4

    def test_a_title_tells_cells_apart(self, kernel: Kernel) -> None:
        kernel.run("%%ml_code data\nx = 1")
        kernel.run("%%ml_code other\nx = 1")
        kernel.run("%%ml_code data\ny = 5")
        assert [cell.text.strip() for cell in kernel.run("%ml_cells")] == ["y = 5", "x = 1"]
        assert kernel.run("%ml_cells clear") == []

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_the_same_texts_give_the_same_package_in_whatever_order_they_were_run(
        self, kernel: Kernel, order: tuple[int, ...]
    ) -> None:
        cells = [IMPORT, DEFINE, "%%ml_code\nn = 4"]
        for number in (0, 1, 2):
            kernel.run(cells[number], cell_id=str(number))
        kernel.run("%%ml_run cloud\nf(n)")
        for number in order:
            kernel.run(cells[number].replace("4", "9"), cell_id=str(number))  # other texts in between
        for number in reversed(order):
            kernel.run(cells[number], cell_id=str(number))
        kernel.engine.jobs.clear()
        kernel.run("%%ml_run cloud -name again\nf(n)")
        first = kernel.package()
        kernel.run("%ml_cells clear")
        for number in order:
            kernel.run(cells[number], cell_id=str(number))
        kernel.run("%%ml_run cloud -name fresh\nf(n)")
        assert kernel.package() == first

    def test_the_order_is_the_notebooks_where_its_file_is_known(
        self, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "book.ipynb"
        path.write_text(json.dumps({"cells": [{"id": id} for id in ("a", "b", "run")]}))
        monkeypatch.setenv("JPY_SESSION_NAME", str(path))
        kernel.run("%%ml_code\nprint('second')", cell_id="b")
        kernel.run("%%ml_code\nprint('first')", cell_id="a")
        kernel.run("%%ml_code\nprint('deleted')", cell_id="gone")
        os.utime(path, (time.time() + 1, time.time() + 1))
        kernel.run("%%ml_run cloud\n1", cell_id="run")
        texts = [text.strip() for text in cells_of(kernel)]
        assert texts == ["print('first')", "print('second')", "_ml_result = (1)"]

        os.utime(path, (1, 1))  # saved before anything was run: that cell may be a new one
        kernel.run("%%ml_run cloud -name unsaved\n1", cell_id="run")
        assert "print('deleted')" in [text.strip() for text in cells_of(kernel)]


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("%%ml_run cloud\nmodel.fit()", r"needs `model`, which no packaged cell defines"),
            ("%%ml_run cloud\ndef f(:", r"line 1: invalid syntax"),
            ("%%ml_code\n!ls", "a job knows no notebook commands"),
            ("%%ml_run clowd\n1", r"invalid choice: 'clowd'"),
            ("%ml_code", "write %%ml_code"),
            ("%ml_fetch", "has started no job"),
        ],
    )
    def test_each_is_one_clear_line_and_leaves_no_job(self, kernel: Kernel, text: str, match: str) -> None:
        kernel.fails(text, NotebookError, match)
        assert kernel.jobs == []

    def test_the_error_is_shown_without_a_traceback(
        self, kernel: Kernel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kernel.shell.run_cell("%%ml_run cloud\nmodel.fit()")
        printed = capsys.readouterr().out.strip()
        assert printed.startswith("NotebookError: The cell 'model.fit()' needs `model`")
        assert "\n" not in printed

    def test_a_marked_cell_that_fails_here_fails_its_own_cell(self, kernel: Kernel) -> None:
        assert not kernel.shell.run_cell("%%ml_run\n1 / 0").success

    def test_a_name_taken_by_another_input_is_told(self, kernel: Kernel) -> None:
        kernel.run("%%ml_run cloud -name train\n1")
        kernel.fails("%%ml_run cloud -name train\n2", JobConflict, "exists with another input")


class TestJobs:
    def test_a_run_brings_back_files_and_the_value_of_the_last_line(self, kernel: Kernel) -> None:
        def run_job(job: dict[str, Any]) -> dict[str, Any]:
            job_dir = job["trainingInput"]["jobDir"]
            kernel.storage.write_bytes(f"{job_dir}/notes.txt", b"hello")
            kernel.storage.write_json(
                f"{job_dir}/ml_result.json", {"kind": "json", "value": {"accuracy": 0.9}}
            )
            return {"state": "SUCCEEDED"}

        kernel.engine.run_job = run_job
        job = kernel.run("%%ml_run cloud\n1")
        assert job.result == {"accuracy": 0.9}
        assert list(job.files) == ["notes.txt"]
        assert job.load("notes.txt") == b"hello"
        assert "notes.txt" in job._repr_html_()
        with pytest.raises(
            JobResultError, match=r"left no file 'model.keras' in `job_dir`; there are: notes.txt"
        ):
            job.load("model.keras")

    def test_a_value_that_cannot_be_kept_is_told_and_the_job_is_there(
        self, kernel: Kernel, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def run_job(job: dict[str, Any]) -> dict[str, Any]:
            told = {"kind": "unserialisable", "type": "builtins.object"}
            kernel.storage.write_json(f"{job['trainingInput']['jobDir']}/ml_result.json", told)
            return {"state": "SUCCEEDED"}

        kernel.engine.run_job = run_job
        job = kernel.run("%%ml_run cloud\nobject()")
        assert "is a builtins.object, which cannot be brought back" in capsys.readouterr().out
        assert job.state == "SUCCEEDED"
        with pytest.raises(JobResultError, match="cannot be brought back"):
            _ = job.result

    def test_a_failed_job_is_an_error_with_its_message(self, kernel: Kernel) -> None:
        kernel.engine.run_job = lambda job: {"state": "FAILED", "errorMessage": "no such luck"}
        kernel.fails("%%ml_run cloud\n1", JobFailed, "ended FAILED: no such luck")

    def test_a_new_kernel_finds_a_job_by_its_name(self, kernel: Kernel) -> None:
        kernel.run("%%ml_run cloud -name mine\n1")
        load_ipython_extension(kernel.shell)  # as in a kernel that knows of no job
        job = kernel.run("%ml_status mine")
        assert (job.id, job.state) == ("mine", "SUCCEEDED")
        assert [row["jobId"] for row in kernel.run("%ml_status")] == ["mine"]
        assert kernel.run("%ml_fetch mine").files == {}

    def test_an_unknown_job_is_told(self, kernel: Kernel) -> None:
        for magic in ("ml_status", "ml_logs", "ml_cancel", "ml_fetch"):
            kernel.fails(f"%{magic} nobody", PlatformError, "There is no job 'nobody' in project local")

    def test_a_running_job_has_nothing_to_fetch_yet(self, kernel: Kernel) -> None:
        kernel.engine.create_job({"jobId": "slow", "trainingInput": {}})
        kernel.engine.jobs["slow"]["state"] = "RUNNING"
        kernel.fails("%ml_fetch slow", JobResultError, "Job slow is RUNNING")


class TestInterrupt:
    @pytest.fixture
    def running(self, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Kernel:
        def interrupted(job: NotebookJob) -> NotebookJob:
            raise KeyboardInterrupt

        kernel.engine.run_job = lambda job: {"state": "RUNNING"}
        monkeypatch.setattr(NotebookJob, "wait", interrupted)
        return kernel

    @pytest.mark.parametrize("answer", ["c", " Cancel "])
    def test_the_user_may_cancel_the_job(
        self, running: Kernel, monkeypatch: pytest.MonkeyPatch, answer: str
    ) -> None:
        monkeypatch.setattr("builtins.input", lambda _: answer)
        job = running.run("%%ml_run cloud\n1")
        assert running.engine.cancelled == [job.id]

    @pytest.mark.parametrize("reply", ["l", "", EOFError(), KeyboardInterrupt(), RuntimeError("no stdin")])
    def test_or_leave_it_running(
        self, running: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reply: Any
    ) -> None:
        def answer(question: str) -> str:
            assert "Cancel it (c) or leave it (l)?" in question
            if isinstance(reply, BaseException):
                raise reply
            return str(reply)

        monkeypatch.setattr("builtins.input", answer)
        job = running.run("%%ml_run cloud\n1")
        assert running.engine.cancelled == []
        assert f"`%ml_fetch {job.id}` brings its files" in capsys.readouterr().out

    def test_an_interrupt_while_submitting_leaves_no_job(
        self, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(body: dict[str, Any]) -> dict[str, Any]:
            raise KeyboardInterrupt

        monkeypatch.setattr(kernel.engine, "create_job", interrupted)
        assert not kernel.shell.run_cell("%%ml_run cloud -name half\n1").success
        assert kernel.engine.cancelled == ["half"]
