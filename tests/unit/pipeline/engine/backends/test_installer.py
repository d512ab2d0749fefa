from __future__ import annotations

import importlib.metadata
import io
import zipfile

import pytest

from pipeline.engine.backends.installer import (
    NO_INDEX,
    InstallError,
    environment_path,
    install_order,
    install_packages,
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


class TestTwice:
    def write(self, tmp_path, number: int, name: str, data: bytes) -> str:
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.write_bytes(data)
        return str(path)

    def test_packages_of_different_projects_are_installed_at_once(self, tmp_path):
        names = ("a-1.tar.gz", "b-1-py3-none-any.whl", "odd.zip")
        files = [self.write(tmp_path, i, name, bytes([i])) for i, name in enumerate(names)]
        assert install_order(files) == [files]

    def test_the_same_file_under_two_addresses_counts_once(self, tmp_path):
        files = [self.write(tmp_path, number, "a-1.tar.gz", b"same") for number in (0, 1)]
        assert install_order(files) == [files[:1]]

    def test_two_packages_of_one_project_are_installed_in_their_order(self, tmp_path):
        files = [
            self.write(tmp_path, 0, "My_Trainer-1-py3-none-any.whl", b"0"),
            self.write(tmp_path, 1, "b-1.tar.gz", b"1"),
            self.write(tmp_path, 2, "my-trainer-2.tar.gz", b"2"),
        ]
        assert install_order(files) == [[file] for file in files]

    def test_the_last_one_of_a_project_stays(self, tmp_path):
        files = []
        for number, code in enumerate(("first = 1", "second = 2")):
            data = wheel("tiny", {"tiny.py": code}, requires=[])
            files.append(self.write(tmp_path, number, "tiny-1-py3-none-any.whl", data))
        install_packages(files, tmp_path / "site")
        assert (tmp_path / "site" / "tiny.py").read_text() == "second = 2\n"


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
