"""The locks: what runs apart from what tests, each pinned, hashed and without a registry's address."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import metadata, packages_distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt")
SITE_LOCK = "requirements-docs.txt"  # installed by `make docs` alone
FILES = ("requirements.in", "requirements-dev.in", *LOCKS)
SITE_FILES = ("requirements-docs.in", SITE_LOCK)
IMAGES_LOCK = "requirements-images.txt"  # installed by `make images` alone
IMAGES_FILES = ("requirements-images.in", IMAGES_LOCK)
TEAM_LOCK = "requirements-team.txt"  # `make demo PROFILE=team` installs it beside the first
TEAM_FILES = ("requirements-team.in", TEAM_LOCK)
RAY_LOCK = "requirements-ray.txt"  # `make ray` installs it in an environment of its own
RAY_FILES = ("requirements-ray.in", RAY_LOCK)
PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+) \\$", re.M)
ELSEWHERE = {"ray"}  # of a program that Ray's own environment runs
OURS = {"pipeline", "graft", *(path.stem for path in (ROOT / "docker").glob("*.py"))}


def pins(lock: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in PINNED.findall((ROOT / lock).read_text())}


def direct(name: str) -> set[str]:
    lines = (ROOT / name).read_text().splitlines()
    return {canonicalize_name(re.split(r"[=<>\[]", line)[0]) for line in lines if re.match(r"\w", line)}


def extras() -> set[str]:
    """What rare things need: asked for by name, `pip install 'graft[onnx]'`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [name for names in project["optional-dependencies"].values() for name in names]
    return {canonicalize_name(re.split(r"[=<>\[]", name)[0]) for name in names}


def imported_by_what_runs() -> set[str]:
    modules = set()
    for folder in ("pipeline", "plugins", "dags", "docker"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    modules.add(node.module.split(".")[0])
    return modules - sys.stdlib_module_names - OURS - {"_typeshed"}  # it exists for type checkers only


@pytest.mark.parametrize("lock", [*LOCKS, SITE_LOCK, TEAM_LOCK, RAY_LOCK, IMAGES_LOCK])
def test_every_package_is_pinned_and_hashed(lock: str) -> None:
    entries = re.split(r"^(?=\w)", (ROOT / lock).read_text(), flags=re.M)[1:]
    assert len(entries) == len(pins(lock)) > 10
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}$", entry, re.M), entry


@pytest.mark.parametrize("name", [*FILES, *SITE_FILES, *TEAM_FILES, *RAY_FILES, *IMAGES_FILES])
def test_no_registry_is_named(name: str) -> None:
    assert not re.search(r"://|pypi|--(extra-)?index|--find-links|@ ", (ROOT / name).read_text())


@pytest.mark.parametrize(("name", "lock"), [FILES[::2], FILES[1::2], TEAM_FILES, RAY_FILES, IMAGES_FILES])
def test_everything_asked_for_is_locked(name: str, lock: str) -> None:
    assert direct(name) <= set(pins(lock))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_one_for_this_python(lock: str) -> None:
    wanted = {name: metadata(name).get("Requires-Python", "") for name in pins(lock)}
    python = ".".join(map(str, sys.version_info[:3]))
    assert [name for name, text in wanted.items() if not SpecifierSet(text).contains(python)] == []


def test_both_locks_agree() -> None:
    run, develop = (pins(lock) for lock in LOCKS)
    shared = run.keys() & develop.keys()
    assert {name: run[name] for name in shared} == {name: develop[name] for name in shared}


def test_what_runs_holds_nothing_that_only_tests() -> None:
    assert direct("requirements-dev.in") & set(pins("requirements.txt")) == set()


def test_the_lock_of_a_team_adds_to_what_runs_and_changes_none_of_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = {
        canonicalize_name(re.split(r"[=<>\[]", name)[0]) for name in project["optional-dependencies"]["team"]
    }
    team = pins(TEAM_LOCK)
    assert extra <= team.keys()
    assert team.keys() & pins("requirements.txt").keys() == set()
    assert team["celery"] < "5.7"


def test_extras_are_not_what_runs() -> None:
    assert extras() & set(pins("requirements.txt")) == set()


def test_what_runs_imports_only_what_is_locked_for_it() -> None:
    homes = packages_distributions()
    locked = set(pins("requirements.txt"))
    missing = {
        module
        for module in imported_by_what_runs()
        if canonicalize_name(module) not in extras() | ELSEWHERE
        and not {canonicalize_name(name) for name in homes.get(module, [])} & locked
    }
    assert missing == set()
    assert ELSEWHERE <= set(pins(RAY_LOCK))
