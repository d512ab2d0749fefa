"""Every package of the locks has a licence of the list in docs/licences.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.unit.test_requirements import LOCKS, ROOT, extras, pins

PAGE = (ROOT / "docs" / "licences.md").read_text()
ALLOWED_TABLE, READ_TABLE = PAGE.split("| licence | why")[1].split("| package | licence |")
ALLOWED_ROWS = [row.split("|")[1] for row in ALLOWED_TABLE.splitlines()[2:] if row.startswith("|")]
ALLOWED = {name for row in ALLOWED_ROWS if " of " not in row for name in re.findall(r"`([^`]+)`", row)}
SCOPED = {  # of packages named one by one, which only an extra installs
    (licence, package)
    for row in ALLOWED_ROWS
    for licence, packages in re.findall(r"`([^`]+)` of (.+)", row)
    for package in re.findall(r"`([^`]+)`", packages)
}
READ = dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)`", READ_TABLE, re.M))
WORDS = {  # of classifiers and of free text
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "2-clause BSD License": "BSD-2-Clause",
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "DFSG approved": "MIT",  # a remark of the one package that has it, beside its licence
}


def is_allowed(text: str, package: str = "") -> bool:
    """Return True if all licences that hold together, or one that can be chosen, are in the list."""
    allowed = ALLOWED | {licence for licence, name in SCOPED if name == package}
    choices = [re.split(r" AND |; ", re.sub(r"^\((.*)\)$", r"\1", choice)) for choice in text.split(" OR ")]
    return any(all(WORDS.get(part, part) in allowed for part in choice) for choice in choices)


@pytest.fixture(scope="module")
def licences() -> dict[str, str]:
    program = Path(sys.executable).with_name("pip-licenses")
    command = [str(program), "--from=mixed", "--format=json", "--with-system"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    return {canonicalize_name(row["Name"]): row["License"] for row in json.loads(output)}


def test_every_locked_package_has_a_licence_that_is_allowed(licences: dict[str, str]) -> None:
    locked = {name for lock in LOCKS for name in pins(lock)}
    stated = {name: READ.get(name) or licences[name] for name in locked & set(licences)}
    wrong = {name: text for name, text in stated.items() if name not in READ and not is_allowed(text, name)}
    assert wrong == {}
    assert len(stated) > 200


def test_licences_that_were_read_are_of_packages_that_do_not_state_one_alone(
    licences: dict[str, str],
) -> None:
    assert [name for name in READ if is_allowed(licences[name])] == []


def test_the_lgpl_is_allowed_for_the_driver_of_an_extra_alone(licences: dict[str, str]) -> None:
    assert SCOPED == {("LGPL-3.0-only", "psycopg"), ("LGPL-3.0-only", "psycopg-binary")}
    assert {licences[name] for _, name in SCOPED} == {"LGPL-3.0-only"}
    assert {name.removesuffix("-binary") for _, name in SCOPED} <= extras()
    assert is_allowed("LGPL-3.0-only", "psycopg")
    assert not is_allowed("LGPL-3.0-only", "numpy")
    assert not is_allowed("GPL-3.0-only", "psycopg")


def test_a_licence_of_single_packages_is_of_none_that_runs_or_is_in_an_image() -> None:
    image = (ROOT / "docker" / "Dockerfile").read_text()
    names = {name for _, name in SCOPED}
    assert names & set(pins("requirements.txt")) == set()
    assert [name for name in (*names, "requirements-dev", "[team]") if name in image] == []


@pytest.mark.parametrize(
    "text", ["GPL-3.0-only", "LGPL-3.0-only", "UNKNOWN", "MIT AND GPL-2.0", "AGPL-3.0; MIT License"]
)
def test_other_licences_are_refused(text: str) -> None:
    assert not is_allowed(text)


@pytest.mark.parametrize("text", ["MIT", "GPL-2.0 OR MIT", "Apache-2.0 AND BSD-2-Clause", "MIT License"])
def test_licences_of_the_list_are_allowed(text: str) -> None:
    assert is_allowed(text)
