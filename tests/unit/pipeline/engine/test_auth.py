from __future__ import annotations

import json

import pytest

from pipeline.engine.auth import Role, Tokens, role_for, token_digest
from pipeline.errors import ConfigError, PermissionDenied, Unauthenticated


def test_without_a_file_the_engine_is_open(tmp_path):
    tokens = Tokens.read(tmp_path / "tokens.json")
    assert tokens.is_open
    tokens.check("")


def test_any_of_the_tokens_passes_and_nothing_else_does(tmp_path):
    path = tmp_path / "tokens.json"
    rows = [{"sha256": token_digest(token), "name": token} for token in ("one", "two")]
    path.write_text(json.dumps({"tokens": rows}))
    tokens = Tokens.read(path)
    tokens.check("Bearer one")
    tokens.check("bearer two")
    for header in (
        "",
        "Bearer",
        "Bearer three",
        "Basic one",
        token_digest("one"),
        f"Bearer {token_digest('one')}",
    ):
        with pytest.raises(Unauthenticated, match="Authorization: Bearer TOKEN"):
            tokens.check(header)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"tokens": []}',
        '{"tokens": [{"sha256": "abc"}]}',
        '{"tokens": [1]}',
        json.dumps({"tokens": [{"sha256": "a" * 64, "role": "owner"}]}),
    ],
)
def test_a_token_file_that_holds_no_token_is_an_error_and_not_an_open_engine(tmp_path, text):
    path = tmp_path / "tokens.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"tokens.json.*64 hex digits"):
        Tokens.read(path)


ROWS = [
    ("GET", "/v1/projects/p/models", Role.READER),
    ("GET", "/v1/projects/p/jobs/j:log", Role.READER),
    ("POST", "/v1/projects/p/models/m:predict", Role.READER),
    ("POST", "/v1/projects/p/models/m/versions/v:predict", Role.READER),
    ("POST", "/v1/projects/p/jobs", Role.TRAINER),
    ("POST", "/v1/projects/p/jobs/j:cancel", Role.TRAINER),
    ("PATCH", "/v1/projects/p/jobs/j", Role.TRAINER),
    ("POST", "/v1/projects/p/models", Role.DEPLOYER),
    ("PATCH", "/v1/projects/p/models/m", Role.DEPLOYER),
    ("DELETE", "/v1/projects/p/models/m:predict", Role.DEPLOYER),
    ("POST", "/v1/projects/p/models/m/versions/v:setDefault", Role.DEPLOYER),
    ("POST", "/v1/projects/p/operations/o:cancel", Role.DEPLOYER),
    ("POST", "/v1/projects/p/jobsx", Role.DEPLOYER),
    ("POST", "/anything", Role.DEPLOYER),
]


@pytest.mark.parametrize(("method", "path", "least"), ROWS)
def test_a_role_may_do_what_it_needs_and_what_lesser_ones_may(method, path, least):
    assert role_for(method, path) == least
    ranks = list(Role)
    for role in ranks:
        tokens = Tokens({token_digest("t"): role})
        if ranks.index(role) >= ranks.index(least):
            tokens.check("Bearer t", role_for(method, path))
        else:
            with pytest.raises(PermissionDenied, match=f"of role {least}; the one given is a {role}"):
                tokens.check("Bearer t", role_for(method, path))


def test_a_token_without_a_role_is_a_deployers(tmp_path):
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"tokens": [{"sha256": token_digest("t"), "name": "stack"}]}))
    Tokens.read(path).check("Bearer t", Role.DEPLOYER)
