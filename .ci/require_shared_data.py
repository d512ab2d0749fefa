"""A pytest plugin: with `../shared/data` present, no test marked `shared_data` may be skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


class _Watch:
    def __init__(self) -> None:
        self.ran = 0
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "shared_data" not in report.keywords:
            return
        if report.skipped:
            self.skipped.append(report.nodeid)
        elif report.when == "call":
            self.ran += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if SHARED_DATA.is_dir() and (self.skipped or not self.ran):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if SHARED_DATA.is_dir() and (self.skipped or not self.ran):
            names = ", ".join(self.skipped) or "none ran at all"
            terminalreporter.write_line(
                f"{SHARED_DATA} is there, but shared_data tests were skipped: {names}"
            )


def pytest_configure(config: pytest.Config) -> None:
    """Register the watch, but not in the processes among which the tests are spread."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Watch(), "require_shared_data_watch")
