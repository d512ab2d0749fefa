"""The make targets and what continuous integration adds to them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = (
    "help setup demo test test-browser test-clients test-team test-ray images test-images soak check "
    "format lint type docs reference bench screenshots notebooks terminals up down ray clean lock"
).split()


class TestMakefile:
    def test_every_target_is_there_and_none_is_a_file(self) -> None:
        phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.M)
        assert phony is not None
        assert phony[1].split() == TARGETS

    @pytest.mark.parametrize("target", TARGETS)
    def test_target_explains_itself(self, target: str) -> None:
        assert re.search(rf"^{target}:.* ## \S", MAKEFILE, re.M)

    @pytest.mark.parametrize("target", sorted(set(TARGETS) - {"help", "setup", "clean", "check"}))
    def test_target_does_its_own_set_up(self, target: str) -> None:
        assert re.search(rf"^{target}: setup ", MAKEFILE, re.M)

    def test_help_lists_the_targets(self) -> None:
        listed = subprocess.run(
            ["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
        )
        assert re.findall(r"^  make ([\w-]+) ", listed.stdout, re.M) == TARGETS

    def test_no_registry_is_named(self) -> None:
        assert not re.search(r"https?://|pypi", MAKEFILE)

    def test_set_up_installs_both_locks_by_their_hashes_with_uv_and_with_pip(self) -> None:
        assert "LOCKS := --require-hashes -r requirements.txt -r requirements-dev.txt" in MAKEFILE
        installs = re.findall(r"pip install .*\$\(LOCKS\)", MAKEFILE)
        assert [line.startswith("pip install --quiet --python") for line in installs] == [True, False]

    def test_lint_checks_the_imports_of_the_pipeline_and_of_the_plugins(self) -> None:
        calls = re.findall(r"^\t(.*)\$\(BIN\)/lint-imports .*--config (\S+)$", MAKEFILE, re.M)
        assert calls == [("", "pyproject.toml"), ("cd plugins && ../", ".importlinter")]


class TestSharedData:
    """`.ci/require_shared_data.py`, in a copy of the tree it looks at."""

    TESTS = """
import pytest

@pytest.mark.shared_data
def test_pictures():
    {body}

def test_other():
    pytest.skip("for another reason")
"""

    def run(self, tmp_path: Path, body: str, *options: str) -> subprocess.CompletedProcess[str]:
        project = tmp_path / "project"
        (project / ".ci").mkdir(parents=True)
        shutil.copy(ROOT / ".ci" / "require_shared_data.py", project / ".ci")
        (project / "pytest.ini").write_text("[pytest]\nmarkers = shared_data: pictures\n")
        (project / "test_it.py").write_text(self.TESTS.format(body=body))
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(project / ".ci")}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "require_shared_data", "-p", "no:cacheprovider", *options],
            cwd=project,
            env=environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @pytest.fixture
    def _pictures(self, tmp_path: Path) -> None:
        (tmp_path / "shared" / "data").mkdir(parents=True)

    def test_skip_without_the_pictures_is_fine(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, "pytest.skip('no pictures')").returncode == 0

    @pytest.mark.usefixtures("_pictures")
    def test_skip_beside_the_pictures_fails_and_is_named(self, tmp_path: Path) -> None:
        result = self.run(tmp_path, "pytest.skip('no pictures')")
        assert result.returncode == 1
        assert "shared_data tests were skipped: test_it.py::test_pictures" in result.stdout

    @pytest.mark.usefixtures("_pictures")
    def test_pictures_that_were_used_are_fine(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, "pass").returncode == 0

    @pytest.mark.usefixtures("_pictures")
    @pytest.mark.parametrize(("body", "code"), [("pass", 0), ("pytest.skip('no pictures')", 1)])
    def test_tests_spread_over_processes_are_watched_too(self, tmp_path: Path, body: str, code: int) -> None:
        assert self.run(tmp_path, body, "-n", "2").returncode == code

    @pytest.mark.usefixtures("_pictures")
    def test_pictures_that_nobody_used_fail(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, "pass", "-k", "test_other").returncode == 1


def test_ci_runs_the_checks_through_make() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec make check"
    assert "set -euo pipefail" in script.read_text()
    assert "\n.ci/install_chromium\n" in script.read_text()
