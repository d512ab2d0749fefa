from __future__ import annotations

import importlib.metadata
import io
import zipfile

import pytest

from pipeline.engine.backends.installer import (
    NO_INDEX,
    InstallError,
    environment_path,
    install_requirements,
    missing_requirements,
)
from tests.packages import wheel

NUMPY = importlib.metadata.version("numpy")


def site(tmp_path, **packages):
    for name, requires in packages.items():
        data = wheel(name, {f"{name}.py": ""}, requires=requires)
        zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path / "site")
    return tmp_path / "site"


def test_what_the_runtime_has_is_not_missing(tmp_path):
    assert missing_requirements(site(tmp_path, tiny=["numpy", "keras>=3", "Pillow", "h5py"])) == []


def test_what_nobody_has_and_other_versions_are_missing_and_named(tmp_path):
    missing = missing_requirements(site(tmp_path, tiny=["graft-no-such-thing>=3", "numpy<1.0"]))
    assert [str(item) for item in missing] == [
        "tiny 1 requires graft-no-such-thing>=3, and the runtime does not have it",
        f"tiny 1 requires numpy<1.0, and the runtime has {NUMPY}",
    ]


def test_packages_of_the_job_meet_each_others_requirements(tmp_path):
    assert missing_requirements(site(tmp_path, tiny=["graft_helper==1"], graft_helper=[])) == []


def test_markers_and_extras_are_looked_at(tmp_path):
    requires = ['graft-no-such-thing; python_version < "3"', 'graft-no-such-thing; extra == "gpu"', "numpy"]
    assert missing_requirements(site(tmp_path, tiny=requires)) == []
    [missing] = missing_requirements(site(tmp_path, outer=["tiny[gpu]"]))
    assert str(missing).startswith("tiny 1 requires graft-no-such-thing")


def test_without_an_index_the_requirement_and_the_way_out_are_named(tmp_path):
    missing = missing_requirements(site(tmp_path, tiny=["graft-no-such-thing"]))
    with pytest.raises(InstallError, match=r"requires graft-no-such-thing.* add the wheel to packageUris"):
        install_requirements(missing, tmp_path, NO_INDEX)


def test_requirements_have_a_directory_of_the_jobs_own(tmp_path):
    assert environment_path(tmp_path).is_relative_to(tmp_path / "env")
