"""The trainer package, installed alone, trains: the job needs nothing else of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import pipeline
from pipeline.submission.package import MODULE, build_package
from tests.integration.trainer_pack import make_bucket, tiny_pictures

MARKER = "9.9.9"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a package with a version of its own into an empty directory."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(
        Path(pipeline.__file__).parent, folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "pipeline" / "__init__.py").write_text(f'"""Marked."""\n\n__version__ = "{MARKER}"\n')
    package = build_package(folder / "pipeline")
    archive = folder / f"{package.digest}.tar.gz"
    archive.write_bytes(package.data)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    ]
    command += ["--disable-pip-version-check", "--target", str(folder / "site"), str(archive)]
    subprocess.run(command, check=True, timeout=120, env={"PATH": os.environ["PATH"], "HOME": str(folder)})
    return folder / "site"


def run(site: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the package first, then the installed libraries, and no `.pth` file.

    Without `-S`, the editable install of a checkout would lend its modules to any `pipeline` that lacks them.
    """
    libraries = sysconfig.get_path("purelib")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{site}{os.pathsep}{libraries}"}
    environment["GRAFT_BUCKETS"] = f"graft={home / 'bucket'}"
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=240)


def test_it_trains_on_16_pictures_and_reports_its_own_version(site: Path, tmp_path: Path) -> None:
    storage, arguments = make_bucket(tmp_path / "bucket", *tiny_pictures())
    done = run(site, tmp_path, "-m", MODULE, *arguments, "--units", "16", "--epochs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    training = storage.read_json("gs://graft/jobs/1/training.json")
    assert training["package"] == {"version": MARKER, "file": str(site / "pipeline" / "__init__.py")}
    assert training["work"] == {"forwarded": 16, "cached": 0}
    assert storage.exists("gs://graft/jobs/1/model/saved_model.pb")


def test_the_rest_of_the_checkout_cannot_be_imported_beside_it(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "-c", "import pipeline.trainer.task\nimport pipeline.config")
    assert done.returncode == 1
    assert "No module named 'pipeline.config'" in done.stderr
