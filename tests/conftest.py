"""Marks by folder, the shared pictures, and a network that reaches only this machine."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler.loadfile import LoadFileScheduling

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
CHROMIUM = Path("/usr/bin/chromium")
MARKED_FOLDERS = {"integration": "integration", "e2e": "e2e"}

# On a loaded machine an example may take seconds: how long one took says nothing of what it found.
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded")

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in a training job


class _ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Each file stays in one of the processes that `make test` starts, and the stack's files in the same.

    Two stacks at once took longer: the processors are the limit, and a stack uses them even when it waits.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "the stack" if file.startswith("tests/e2e/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return _ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in MARKED_FOLDERS:
            item.add_marker(MARKED_FOLDERS[folder])
        if folder == "e2e" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(1800))  # the first one starts the stack
    if not os.environ.get("GRAFT_SOAK"):
        _leave_out(config, items, [item for item in items if "soak" in item.keywords])
    if not CHROMIUM.exists():  # `make test-browser` and .ci/run install it, or fail
        _leave_out(config, items, [item for item in items if "chromium" in getattr(item, "fixturenames", ())])

    if not _has_postgres():
        _leave_out(config, items, [item for item in items if "postgres" in getattr(item, "fixturenames", ())])


def pytest_sessionfinish() -> None:
    from tests.fakes.databases import end_server

    end_server()


def _has_postgres() -> bool:
    from tests.fakes.postgres import find_programs

    return find_programs() is not None and importlib.util.find_spec("psycopg") is not None


def _leave_out(config: pytest.Config, items: list[pytest.Item], out: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not CHROMIUM.exists():
        terminalreporter.write_line(f"No {CHROMIUM}, so its tests were left out; `make test-browser`.")
    if not _has_postgres():
        terminalreporter.write_line(
            "The tests of PostgreSQL were left out; `make test-team` says what is missing."
        )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no folder {SHARED_DATA}")
    return SHARED_DATA


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] == "localhost"


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if not _is_local(address):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
