"""The README and the first tutorial as they are written: each block of commands in order, in one shell.

The stack of the other tests is used instead of one in a fresh clone; `test_fresh_clone.py` makes one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import PROJECT_ROOT
from tests.e2e.conftest import GRAFT, Stack
from tests.e2e.reader import Reader, blocks_of, must_find

DONE_BY_THE_FIXTURE = ("make ", "source .venv", "graft up", "graft down")
README = (
    "brick",
    "wrote",
    "accuracy",
    "accepted",
    "novelty",
    "/graft/classifiers/animals",
    '"label":"brick"',
)
TUTORIAL = (  # what the reader is told to find, in this order
    "brick",
    "wrote",
    "accuracy",
    "accepted",
    "novelty",
    '"label":"brick"',
    "rolled_back",
    "wet grass",
)
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory of Graft as the reader has it, without the stack of the tests."""
    (tmp_path / "docs").symlink_to(PROJECT_ROOT / "docs")
    return tmp_path


def read_page(page: str, folder: Path, stack: Stack, prepare: str = ":") -> str:
    """Type the blocks of commands of a page and return all that was printed."""
    path = f"{Path(GRAFT).parent}:{stack.environ['PATH']}"
    environ = stack.environ | {"PATH": path, "BROWSER": "true", "COLUMNS": "160"}
    with Reader(folder, environ) as reader:
        reader.type(prepare)
        for block in blocks_of(PROJECT_ROOT / page):
            if block.language == "bash":
                lines = block.text.splitlines(keepends=True)
                reader.type("".join(line for line in lines if not line.startswith(DONE_BY_THE_FIXTURE)))
        return "".join(reader.written)


def test_the_readme(stack: Stack, folder: Path) -> None:
    pictures = "python docs/examples/sample_pictures.py pictures/animals brick gravel --count 20"
    printed = read_page("README.md", folder, stack, f"{pictures}\ncp pictures/animals/brick/1.png photo.jpg")
    must_find(README, printed)


def test_the_first_classifier(stack: Stack, folder: Path) -> None:
    must_find(TUTORIAL, read_page("docs/tutorials/first_classifier.md", folder, stack))
