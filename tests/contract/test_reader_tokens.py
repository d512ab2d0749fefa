"""Reader tokens: what one may ask, until when, and what is kept of it."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from sqlalchemy import text

from pipeline.engine.api.app import create_app
from pipeline.engine.auth import Role, token_digest
from pipeline.engine.models.reader_tokens import MAX_TOKENS, ReaderTokens, TokenFile
from pipeline.errors import ConfigError, FormatTooNew, PlatformError
from pipeline.ml_engine.rest import RestMLEngine
from tests.contract.conftest import serving
from tests.contract.test_safety import SECRET, bearer, write_tokens
from tests.fakes.databases import IS_POSTGRES


@pytest.fixture
def v1(restart, parts):
    """An engine with tokens, asked with the deployer's, and two models that serve."""
    write_tokens(parts)
    v1 = restart()
    v1.http.headers.update(bearer(Role.DEPLOYER))
    for name in ("m", "other"):
        v1("POST", "models", {"name": name})
        v1.deploy(name, "v1", parts.export(f"gs://other/{name}"))
    return v1


def create(v1, name="shop"):
    return v1("POST", "models/m:createToken", {"name": name})


def status(v1, token, path="models/m:predict", method="POST", **headers):
    body = {"instances": ["x"]} if method == "POST" else None
    sent = {"Authorization": f"Bearer {token}", **headers}
    return v1.http.request(method, f"/v1/projects/p/{path}", json=body, headers=sent).status_code


def test_it_predicts_with_its_model_and_does_nothing_else(v1):
    token = create(v1)["token"]
    assert status(v1, token) == status(v1, token, "models/m/versions/v1:predict") == 200
    for path in (
        *(
            "models/other:predict",
            "models/other/versions/v1:predict",
            "models/m:explain",
            "models/m:feedback",
        ),
        *("models/m:createToken", "models/m:revokeToken", "models/m/../other:predict", "models/m/versions"),
        *(":predictMany", "jobs", "models", "models/m%2F..%2Fother:predict", "models/m:predict/"),
    ):
        assert status(v1, token, path) in (401, 404), path
    for path in ("models/m", "models", "jobs", "models/m/tokens", "operations"):
        assert status(v1, token, path, "GET") == 401, path
    for method in ("DELETE", "PATCH", "GET"):
        assert status(v1, token, "models/m", **{"X-HTTP-Method-Override": method}) == 401
    assert status(v1, f"{token}x") == status(v1, "") == 401


def test_a_revoked_one_is_refused_at_once_and_the_others_stay(v1, restart, parts):
    first, second = create(v1), create(v1, "app")
    assert v1("POST", "models/m:revokeToken", {"id": first["id"]}) == {"id": first["id"]}
    assert (status(v1, first["token"]), status(v1, second["token"])) == (401, 200)
    v1.http.headers.update(bearer(Role.DEPLOYER))
    v1.error("POST", "models/m:revokeToken", {"id": first["id"]}, code=404)
    assert v1("GET", "models/m/tokens") == {"tokens": [{k: second[k] for k in ("id", "name", "created")}]}
    again = restart()
    assert (status(again, first["token"]), status(again, second["token"])) == (401, 200)


def test_those_of_a_deleted_model_do_not_hold_for_a_later_one_of_its_name(v1, restart, parts):
    token, others = create(v1)["token"], v1("POST", "models/other:createToken", {"name": "shop"})["token"]
    v1.error("DELETE", "models/m", code=400)
    assert status(v1, token) == 200  # a model with versions stays, and so do its tokens
    v1.wait_done(v1("DELETE", "models/m/versions/v1"))
    v1("DELETE", "models/m")
    assert status(v1, token) == 401
    v1("POST", "models", {"name": "m"})
    v1.deploy("m", "v1", parts.export("gs://other/m"))
    assert v1("GET", "models/m/tokens") == {"tokens": []}
    again = restart()
    assert (status(again, token), status(again, others, "models/other:predict")) == (401, 200)


def test_a_model_whose_tokens_cannot_be_revoked_is_not_deleted(v1, monkeypatch):
    token = create(v1)["token"]
    v1.wait_done(v1("DELETE", "models/m/versions/v1"))
    with monkeypatch.context() as disk:
        what = "delete" if IS_POSTGRES else "os.replace"
        disk.setattr(f"pipeline.engine.models.reader_tokens.{what}", full_disk)
        v1.error("DELETE", "models/m", code=503)
    assert v1("GET", "models/m")["name"] == "projects/p/models/m"
    v1("DELETE", "models/m")
    assert status(v1, token) == 401


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_only_a_digest_is_kept_for_the_owner_alone(v1, parts):
    token = create(v1)["token"]
    path = parts.home / "engine" / "reader_tokens.json"
    if IS_POSTGRES:
        connections = parts.database.connect()
        with connections.connect() as connection:
            [row] = connection.execute(text("SELECT * FROM reader_tokens")).all()
        connections.dispose()
        assert token not in row
        assert token_digest(token) in row
        assert not path.exists()
        return
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.glob(".reader_tokens*")) == []


@pytest.mark.parametrize("role", [Role.READER, Role.TRAINER])
def test_only_a_deployer_makes_lists_and_revokes_them(v1, role):
    id = create(v1)["id"]
    v1.http.headers.update(bearer(role))
    v1.error("POST", "models/m:createToken", {"name": "x"}, code=403)
    v1.error("POST", "models/m:revokeToken", {"id": id}, code=403)
    v1.error("GET", "models/m/tokens", code=403)


def test_what_is_no_request_is_refused(v1):
    for body in (None, [], {}, {"name": 1}, {"name": "a\nb"}, {"name": "x" * 201}):
        v1.error("POST", "models/m:createToken", body, code=400)
    v1.error("POST", "models/none:createToken", {"name": "x"}, code=404)
    v1.error("GET", "models/none/tokens", code=404)


def test_a_model_has_so_many_and_no_more(v1):
    for number in range(MAX_TOKENS):
        create(v1, f"t{number}")
    v1.error("POST", "models/m:createToken", {"name": "x"}, code=429)


def test_the_client_makes_lists_and_revokes_them(parts):
    write_tokens(parts)
    with serving(create_app(parts.engine())) as url:
        client = RestMLEngine(url, "p", f"{SECRET}-{Role.DEPLOYER}", patience_seconds=0)
        client.create_model({"name": "m"})
        token = client.create_token("m", "shop")
        [kept] = client.list_tokens("m")
        assert (kept.name, len(token)) == ("shop", 43)
        with (
            closing(RestMLEngine(url, "p", token, patience_seconds=0)) as reader,
            pytest.raises(PlatformError, match="authentication"),
        ):
            reader.list_models()
        client.revoke_token("m", kept.id)
        assert client.list_tokens("m") == []
        client.close()


def test_an_open_engine_makes_none(restart):
    v1 = restart()
    v1("POST", "models", {"name": "m"})
    v1.error("POST", "models/m:createToken", {"name": "x"}, code=400)


def test_a_full_disk_changes_nothing(tmp_path, monkeypatch):
    tokens = ReaderTokens(TokenFile(path=tmp_path / "reader_tokens.json"))
    kept, _ = tokens.create("projects/p/models/m", "shop")
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        tokens.revoke("projects/p/models/m", kept.id)
    assert tokens.of_model("projects/p/models/m") == [kept]
    assert ReaderTokens(TokenFile(path=tmp_path / "reader_tokens.json")).of_model("projects/p/models/m") == [
        kept
    ]


def test_a_file_that_cannot_be_read_stops_the_engine_with_what_to_do(tmp_path):
    path = tmp_path / "reader_tokens.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="Restore it, or delete it"):
        ReaderTokens(TokenFile(path=path))
    path.write_text(json.dumps({"format": 2, "tokens": []}))
    with pytest.raises(FormatTooNew):
        ReaderTokens(TokenFile(path=path))
