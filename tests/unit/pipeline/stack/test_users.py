import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.stack.users import parse_users, write_passwords


def passwords(home: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((home / "airflow" / "passwords.json").read_text())
    return found


def test_each_person_has_a_role() -> None:
    assert parse_users("ann:viewer, bob:op,") == {"ann": "viewer", "bob": "op"}


@pytest.mark.parametrize("text", ["ann", "ann:king", ":viewer", "admin:viewer", "a b:viewer", "ann:viewer:x"])
def test_what_is_no_person_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="GRAFT_USERS wants name:role"):
        parse_users(text)


def test_the_password_file_is_private_and_the_one_airflow_reads(tmp_path: Path) -> None:
    write_passwords(tmp_path, "secret", {})
    assert passwords(tmp_path) == {"admin": "secret"}
    assert (tmp_path / "airflow" / "passwords.json").stat().st_mode & 0o777 == 0o600


def test_a_person_keeps_the_first_password_and_leaves_with_it(tmp_path: Path) -> None:
    write_passwords(tmp_path, "secret", {"ann": "viewer"})
    first = passwords(tmp_path)["ann"]
    assert len(first) >= 16
    write_passwords(tmp_path, "secret", {"ann": "user", "bob": "viewer"})
    assert passwords(tmp_path)["ann"] == first != passwords(tmp_path)["bob"]
    write_passwords(tmp_path, "secret", {})
    assert set(passwords(tmp_path)) == {"admin"}
