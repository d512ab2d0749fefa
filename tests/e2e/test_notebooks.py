"""The notebooks of docs/notebooks, headless on the real stack, which they find through GRAFT_HOME alone."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from pipeline.config import PROJECT_ROOT
from pipeline.ml_engine.rest import RestMLEngine
from pipeline.stack.state import load_secrets, load_state
from tests.e2e.conftest import Stack

FOLDER = PROJECT_ROOT / "docs" / "notebooks"
CELL_SECONDS = 400
# Kernels that are not encrypted on loopback warn; pyzmq and nbclient leave what they close to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


class Book:
    """An executed notebook."""

    def __init__(self, cells: list[Any]) -> None:
        self._cells = cells

    def outputs(self, text: str) -> list[Any]:
        """Return the outputs of the first code cell that has a text."""
        code = (cell for cell in self._cells if cell.cell_type == "code")
        found: list[Any] = next(cell.outputs for cell in code if text in cell.source)
        return found

    def value(self, text: str) -> str:
        """Return what that cell's last line came to, as text."""
        values = [output.data["text/plain"] for output in self.outputs(text) if "data" in output]
        return str(values[-1])

    def printed(self, text: str) -> str:
        return "".join(output.text for output in self.outputs(text) if output.output_type == "stream")

    def pictures(self) -> list[bytes]:
        import base64

        data = [output.data for cell in self._cells for output in cell.get("outputs", []) if "data" in output]
        return [base64.b64decode(each["image/png"]) for each in data if "image/png" in each]


def execute(stack: Stack, folder: Path, cells: Any) -> Book:
    """Run cells in a kernel that knows nothing of the stack but its GRAFT_HOME."""
    client = NotebookClient(
        cells, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    environ = {name: value for name, value in stack.environ.items() if name != "GRAFT_CLASSIFIERS"}
    client.execute(env=environ)
    return Book(cells.cells)


def run_book(stack: Stack, folder: Path, name: str) -> Book:
    return execute(stack, folder, nbformat.read(FOLDER / name, as_version=4))


@pytest.mark.soak
def test_the_article_is_retold(stack: Stack, tmp_path: Path) -> None:
    book = run_book(stack, tmp_path, "1_the_article.ipynb")
    assert book.printed("explain.classify").count("Score") == 5
    assert "'name': 'pooled'" in book.value("explain.layers")
    log = book.printed("%%ml_run cloud")
    assert "is SUCCEEDED" in log
    assert "Epoch 20/20" in log
    assert "Accuracy 1.0" in log
    assert book.value("engine.create_version") == "'READY'"
    assert "{'predictions': [{'outputs': [" in book.value("urlsafe_b64encode")
    assert book.value("LABELS[int(") == "'brick'"
    assert len(book.pictures()) == 2
    assert "is SUCCEEDED" in book.printed("dense_1_input')])")
    flowers = ast.literal_eval(book.value("[5.4, 3.9, 1.3, 0.4]"))["predictions"]
    assert flowers == [{"ArgMax_1": kind} for kind in (0, 0, 0, 0, 1, 2)]


@pytest.mark.soak
def test_own_pictures_become_a_served_version_with_the_head_of_a_cell(stack: Stack, tmp_path: Path) -> None:
    book = run_book(stack, tmp_path, "2_your_own_pictures.ipynb")
    cell = nbformat.read(FOLDER / "2_your_own_pictures.ipynb", as_version=4).cells
    text = next(each.source for each in cell if "%%ml_head" in each.source).partition("\n")[2]
    digest = hashlib.sha256(f"{text}\n".encode()).hexdigest()
    assert digest in book.value("trace_version")
    shown = book.outputs("%graft_run my_pictures")[-1].data["text/html"]
    assert "accepted" in shown
    assert 'sandbox=""' in shown
    assert "data:image/jpeg" in book.outputs("notebook.dataset(")[-1].data["text/html"]
    (serving,) = stack.graft_json("versions", "my_pictures")
    assert serving["is_default"] is True
    assert stack.graft_json("lineage", "my_pictures")["head"]["sha256"] == digest
    assert book.value("predict_pictures").startswith("('brick', ")


def test_a_prediction_is_taken_apart(stack: Stack, tmp_path: Path) -> None:
    book = run_book(stack, tmp_path, "3_anatomy_of_a_prediction.ipynb")
    assert "142 layers, 3413024 parameters" in book.printed("explain.layers")
    assert "brick (" in book.value("explained = notebook.explain")
    assert len(book.pictures()) == 3


def cells(*texts: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in texts])


LOAD = "%load_ext pipeline.notebook"


def test_a_job_outlives_its_kernel_and_a_new_one_finds_it_by_name(stack: Stack, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    waiting = (
        "%%ml_run cloud -name outlives_its_kernel\n"
        "import time\nfrom pathlib import Path\n"
        "Path(job_dir, 'begun.txt').write_text('yes')\n"
        f"while not Path({str(gate)!r}).exists():\n    time.sleep(0.1)\n"
        "{'answer': 42}"
    )
    dies = (
        "import os, threading, time\n"
        "from pipeline import notebook\n"
        "def die():\n"
        "    engine = notebook.connect().engine\n"
        "    while (engine.get_job('outlives_its_kernel') or {}).get('state') != 'RUNNING':\n"
        "        time.sleep(0.1)\n"
        "    os._exit(1)\n"
        "threading.Thread(target=die).start()"
    )
    from nbclient.exceptions import DeadKernelError

    with pytest.raises(DeadKernelError):
        execute(stack, tmp_path, cells(LOAD, dies, waiting))
    gate.touch()
    book = execute(
        stack,
        tmp_path,
        cells(
            LOAD,
            "%ml_status",
            "job = %ml_status outlives_its_kernel\njob.wait()",
            "job = %ml_fetch outlives_its_kernel\njob.result, list(job.files)",
        ),
    )
    assert "outlives_its_kernel" in book.value("%ml_status")
    assert book.value("%ml_fetch") == "({'answer': 42}, ['begun.txt'])"


def test_a_wrong_token_and_no_engine_are_told_in_one_line(stack: Stack, tmp_path: Path) -> None:
    url = load_state(stack.home).engine_url
    run = "%%ml_run cloud -name never_made\n1"
    book = cells(
        LOAD,
        f"%env GRAFT_ML_ENGINE_URL={url}\n%env GRAFT_ML_ENGINE_TOKEN=wrong",
        run,
        "%env GRAFT_ML_ENGINE_URL=http://127.0.0.1:9",
        run,
        f"%env GRAFT_ML_ENGINE_URL=\n%env GRAFT_HOME={tmp_path}",
        run,
    )
    for number in (2, 4, 6):
        book.cells[number].metadata["tags"] = ["raises-exception"]
    execute(stack, tmp_path, book)
    wrong, silent, none = ("\n".join(book.cells[number].outputs[-1].traceback) for number in (2, 4, 6))
    assert "answered 401" in wrong
    assert "Check the connection's token" in wrong
    assert "ML Engine at http://127.0.0.1:9 does not answer" in silent
    assert "No ML Engine is configured" in none
    assert not any("\n" in text for text in (wrong, silent, none))
    secrets = load_secrets(stack.home)
    assert secrets is not None
    engine = RestMLEngine(url, "local", secrets.engine_token)
    assert engine.get_job("never_made") is None
    engine.close()
