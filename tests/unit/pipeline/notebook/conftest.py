from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from pipeline.artifacts.workspace import Workspace
from pipeline.notebook import load_ipython_extension, magics
from pipeline.notebook.connection import Connection
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine


@dataclass
class Kernel:
    """IPython with our magics on an engine in memory."""

    shell: InteractiveShell
    engine: FakeMLEngine
    storage: Storage
    answers: list[str] = field(default_factory=list)

    def run(self, text: str, *, cell_id: str | None = None) -> Any:
        """Run a cell and return its value; an error in it is raised."""
        result = self.shell.run_cell(text, cell_id=cell_id)
        result.raise_error()
        return result.result

    def fails(self, text: str, kind: type[Exception], match: str) -> None:
        with pytest.raises(kind, match=match):
            self.run(text)

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return list(self.engine.jobs.values())

    def package(self, number: int = -1) -> str:
        """Return the URI of a job's package: it ends in the digest."""
        uri: str = self.jobs[number]["trainingInput"]["packageUris"][0]
        return uri


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    engine = FakeMLEngine(run_job=lambda job: {"state": "SUCCEEDED"})
    storage = Storage({"graft": tmp_path / "bucket"})
    connection = Connection(engine=engine, workspace=Workspace(storage, "gs://graft"), home=tmp_path / "home")
    monkeypatch.setattr(magics, "connect", lambda **_: connection)
    load_ipython_extension(shell)
    yield Kernel(shell, engine, storage)
    shell.restore_sys_module_state()
