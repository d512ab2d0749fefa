"""README and tutorials in a fresh clone, followed literally by somebody who has nothing but the page.

The blocks of commands are typed into one shell for each page, cells go into a notebook, and what a page
does in the browser is done there. `make test` is left out. The tests follow each other as the pages do.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser

from pipeline.config import PROJECT_ROOT
from tests.e2e.browser import Visitor, start_chromium
from tests.e2e.conftest import Stack, wait_until
from tests.e2e.reader import Reader, blocks_of, must_find
from tests.e2e.test_tutorials import README, TUTORIAL

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
RUN_SECONDS = 600
NOTEBOOK = "tutorial.ipynb"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with start_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone without an environment. Its stack is ended and its state is removed afterwards."""
    place = tmp_path_factory.mktemp("clone") / "graft"
    subprocess.run(["git", "clone", "--quiet", "--no-local", str(PROJECT_ROOT), str(place)], check=True)
    yield place
    with Reader(place, environ()) as reader:
        reader.type("make clean")


@pytest.fixture
def stack(clone: Path) -> Stack:
    """The stack of the clone, which the pages start."""
    return Stack(home=clone / ".graft", classifiers=clone, gallery_port=0)


def environ() -> dict[str, str]:
    """The environment of a new user: nothing of this project is set."""
    ours = ("GRAFT_", "AIRFLOW", "VIRTUAL_ENV", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "BROWSER": "true"
    }


def commands_of(clone: Path, page: str) -> Iterator[tuple[str, str]]:
    """Yield the heading above each block of commands, and its text."""
    for block in blocks_of(clone / page):
        if block.language == "bash":
            yield block.section, block.text.replace("make test ", ": make test ")


def read_page(clone: Path, page: str, prepare: str = ":") -> str:
    with Reader(clone, environ()) as reader:
        reader.type(prepare)
        for _, commands in commands_of(clone, page):
            reader.type(commands)
        return "".join(reader.written)


def test_the_readme(clone: Path) -> None:
    pictures = (
        "make setup\n"
        ".venv/bin/python docs/examples/sample_pictures.py pictures/animals brick gravel --count 20\n"
        "cp pictures/animals/brick/1.png photo.jpg"
    )
    must_find(("accepted", "make down", *README), read_page(clone, "README.md", pictures))


def test_the_first_classifier(clone: Path) -> None:
    printed = read_page(clone, "docs/tutorials/first_classifier.md")
    must_find((*TUTORIAL, "processes ended"), printed)


def test_from_a_notebook_to_a_pipeline(clone: Path) -> None:
    page = "docs/tutorials/from_notebook_to_pipeline.md"
    blocks = list(blocks_of(clone / page))
    cells = [nbformat.v4.new_code_cell(block.text.rstrip()) for block in blocks if block.is_cell]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), clone / NOTEBOOK)
    start, keep = [text for _, text in commands_of(clone, page)]
    with Reader(clone, environ()) as reader:
        reader.type(start)
        reader.type(f"jupyter execute --inplace --timeout=600 {NOTEBOOK}")
        outputs = str([cell.outputs for cell in nbformat.read(clone / NOTEBOOK, as_version=4).cells])
        must_find(("is SUCCEEDED", "array([0, 2, 4])", "model: {head:", "accepted"), outputs)
        line = re.findall(r"model: \{head: \{module: gs://graft/heads/(\w+)\.py\}\}", outputs)[0]
        with (clone / ".graft/classifiers/floors.yaml").open("a") as file:
            file.write(f"model: {{head: {{module: gs://graft/heads/{line}.py}}}}\n")
        reader.type("graft doctor")
        assert line in reader.type(keep)


def test_a_team(clone: Path, stack: Stack, chromium: Browser) -> None:
    with Reader(clone, environ()) as reader:
        for section, commands in commands_of(clone, "docs/tutorials/team.md"):
            printed = reader.type(commands)
            if "--no-wait" in commands:
                run_id = re.findall(r"Run (\S+) of floors is queued", printed)[0]
                approve(chromium, stack, run_id)
            if section.startswith("4."):
                must_find(("approved", "bob"), printed)


def approve(chromium: Browser, stack: Stack, run_id: str) -> None:
    """Sign in as Bob, approve the candidate, and wait until the run has ended."""
    api = stack.airflow()

    def state_of_approve() -> str | None:
        tasks = api.task_instances("floors", run_id)
        return next((task.state for task in tasks if task.task_id == "approve"), None)

    wait_until(lambda: state_of_approve() == "awaiting_input", seconds=RUN_SECONDS, what="question", pause=1)
    visitor = Visitor(chromium, stack, "bob")
    visitor.approve("floors", run_id)

    def has_ended() -> bool:
        if state_of_approve() == "awaiting_input":
            visitor.approve("floors", run_id)  # Airflow lost the answer, and asks again
        return api.run_state("floors", run_id) == "success"

    wait_until(
        has_ended,
        seconds=RUN_SECONDS,
        what="end of the run",
        pause=1,
    )
    visitor.close()


def test_an_old_dag(clone: Path, stack: Stack, chromium: Browser) -> None:
    with Reader(clone, environ()) as reader:
        for _, commands in commands_of(clone, "docs/tutorials/old_dag.md"):
            if "example_line:predict" in commands:
                run(chromium, stack, "mlengine_train_and_deploy")
                must_find(('"predictions"',), reader.type(commands))
            else:
                reader.type(commands)


def run(chromium: Browser, stack: Stack, dag_id: str) -> None:
    """Trigger a DAG in Airflow's UI and wait until it has succeeded."""
    api = stack.airflow()
    wait_until(lambda: api.last_parsed(dag_id), seconds=120, what="DAG", pause=1)
    visitor = Visitor(chromium, stack, "admin")
    run_id = visitor.trigger(dag_id)
    visitor.close()
    wait_until(
        lambda: api.run_state(dag_id, run_id) == "success",
        seconds=RUN_SECONDS,
        what="end of the run",
        pause=1,
    )
