from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.engine.sandbox.system import around, interpreter


def test_what_holds_a_private_directory_is_replaced_by_what_else_is_in_it(tmp_path: Path) -> None:
    home = tmp_path / "opt" / "graft" / ".graft"
    for path in (home / "engine", tmp_path / "opt" / "cuda", tmp_path / "opt" / "graft" / "pipeline"):
        path.mkdir(parents=True)
    (tmp_path / "opt" / "file").touch()
    usr = str(tmp_path / "usr")
    paths = around((str(tmp_path / "opt"), usr, str(home)), (home,))
    names = [Path(path).relative_to(tmp_path).as_posix() for path in paths]
    assert names == ["opt/cuda", "opt/file", "opt/graft/pipeline", "usr"]


def test_a_link_to_what_holds_a_private_directory_is_no_way_to_it(tmp_path: Path) -> None:
    (tmp_path / "real" / "home").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert around((str(tmp_path / "link"),), (tmp_path / "real" / "home",)) == ()
    assert around((str(tmp_path / "real"),), (tmp_path / "link" / "home",)) == ()


def test_packages_of_another_environment_are_the_interpreters_and_other_directories_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, other = tmp_path / "lib" / "site-packages", tmp_path / "work"
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages), str(other)])
    assert str(packages) in interpreter()
    assert str(other) not in interpreter()
