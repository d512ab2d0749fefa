from __future__ import annotations

import json

import pytest

from pipeline.engine.auth import Tokens, token_digest
from pipeline.errors import ConfigError, Unauthenticated


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
    "text", ["", "[]", '{"tokens": []}', '{"tokens": [{"sha256": "abc"}]}', '{"tokens": [1]}']
)
def test_a_token_file_that_holds_no_token_is_an_error_and_not_an_open_engine(tmp_path, text):
    path = tmp_path / "tokens.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"tokens.json.*64 hex digits"):
        Tokens.read(path)
