"""What `pip install` of the wheel brings; tests/integration/test_installed.py tries an Airflow with it."""

from __future__ import annotations

import email
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.distribution import ROOT, build_wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("dist")))


def files_below(folder: str) -> set[str]:
    root = ROOT / folder
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts and not path.name.startswith(".")}


def test_everything_that_runs_is_in_the_wheel_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    wanted = {f"pipeline/{name}" for name in files_below("pipeline")}
    wanted |= {f"graft/{name}" for name in files_below("plugins/graft")}
    wanted |= {f"graft/dags/{name}" for name in files_below("dags")}
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == wanted


def test_airflows_folder_names_are_no_packages(wheel: zipfile.ZipFile) -> None:
    tops = {Path(name).parts[0] for name in wheel.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"pipeline", "graft"}


def test_airflow_finds_the_plugin_and_the_provider(wheel: zipfile.ZipFile) -> None:
    entries = ConfigParser()
    entries.read_string(read_info(wheel, "entry_points.txt"))
    assert dict(entries["airflow.plugins"]) == {"graft": "graft.plugin:GraftPlugin"}
    assert dict(entries["apache_airflow_provider"]) == {
        "provider_info": "pipeline.provider:get_provider_info"
    }
    assert dict(entries["console_scripts"]) == {"graft": "pipeline.cli:main"}


def test_requirements_are_those_of_the_lock_and_allow_patches_of_airflow(wheel: zipfile.ZipFile) -> None:
    metadata = email.message_from_string(read_info(wheel, "METADATA"))
    wanted = [
        line.replace("airflow==", "airflow~=").replace(" ", "")
        for line in (ROOT / "requirements.in").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    always = [text.replace(" ", "") for text in metadata.get_all("Requires-Dist", []) if "extra" not in text]
    assert sorted(always) == sorted(wanted)
    assert "apache-airflow~=3.3.2" in always
    assert set(metadata.get_all("Provides-Extra", [])) >= {"onnx", "s3", "team"}


def test_licence_comes_with_it(wheel: zipfile.ZipFile) -> None:
    assert read_info(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()


def read_info(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()
