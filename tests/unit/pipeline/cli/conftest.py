from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


Graft = Callable[..., Outcome]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GRAFT_CLASSIFIERS", "GRAFT_BUCKETS", "GRAFT_BUCKET", "GRAFT_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def graft(home: Path, capsys: pytest.CaptureFixture[str]) -> Graft:
    """Run the command line in this process, with a home of its own."""

    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        printed = capsys.readouterr()
        return Outcome(code=int(ended.value.code or 0), stdout=printed.out, stderr=printed.err)

    return run
