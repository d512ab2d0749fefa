"""The first tutorial, as it is written: each block of commands is run in order, in one shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pipeline.config import PROJECT_ROOT
from pipeline.datasets.sources.sample import SampleSource
from tests.e2e.conftest import GRAFT, Stack

PAGE = PROJECT_ROOT / "docs" / "tutorials" / "first_classifier.md"
DONE_BY_THE_FIXTURE = ("make setup", "source .venv", "graft up", "graft down")
SEEN = (  # what the reader is told to find, in this order
    "brick",
    "wrote",
    "accuracy",
    "accepted",
    "novelty",
    '"label":"brick"',
    "rolled_back",
    "wet grass",
)
PICTURES = 40


def commands() -> str:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    lines = [line for block in blocks for line in block.splitlines()]
    return "\n".join(line for line in lines if not line.startswith(DONE_BY_THE_FIXTURE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the reader brings: a folder of pictures."""
    for label in ("brick", "grass"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for entry in list(SampleSource(classes=[label]).entries(0, 1))[:PICTURES]:
            assert entry.read is not None
            (tmp_path / "pictures" / label / f"{entry.position}.png").write_bytes(entry.read())
    return tmp_path


@pytest.mark.timeout(900)
def test_the_first_classifier(stack: Stack, folder: Path) -> None:
    environ = stack.environ | {
        "PATH": f"{Path(GRAFT).parent}:{stack.environ['PATH']}",
        "BROWSER": "true",
        "COLUMNS": "160",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands()],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    place = 0
    for words in SEEN:
        place = done.stdout.find(words, place)
        assert place >= 0, f"{words!r} is missing in: {done.stdout}{done.stderr}"
