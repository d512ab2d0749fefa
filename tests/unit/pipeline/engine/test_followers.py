"""Engines of one PostgreSQL database: one leads, the others follow it and answer as it does."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from alembic import command
from sqlalchemy import select, update

from pipeline.engine.api.app import create_app
from pipeline.engine.api.forwarding import FORWARDED, is_own
from pipeline.engine.auth import token_digest
from pipeline.engine.engine import Engine
from pipeline.engine.home import home_id
from pipeline.engine.lease import Lease, process_name
from pipeline.engine.member import POLL_SECONDS
from pipeline.engine.store import JobRow, LeaseRow, RouteChangeRow, Store, VersionRow
from pipeline.engine.upgrade import _alembic_config
from pipeline.errors import DatabaseUnavailable, StackError
from tests.fakes.clock import wait_for
from tests.fakes.engine import FakeParts
from tests.fakes.postgres import running

TRAINING = {"pythonModule": "trainer.task", "packageUris": ["gs://graft/a.tar.gz"], "region": "r"}


@pytest.fixture(autouse=True)
def long_lease(monkeypatch):
    """On a loaded machine an engine may not renew in time, and one whose lease is taken ends its process."""
    monkeypatch.setattr("pipeline.engine.lease.LEASE_SECONDS", 600.0)


@pytest.fixture(scope="module")
def postgres():
    with running() as server:
        yield server


@pytest.fixture
def database(postgres):
    return postgres.new_database()


class Served:
    """An engine on fakes behind real HTTP."""

    def __init__(self, engine: Engine, parts: FakeParts, url: str) -> None:
        self.engine, self.parts, self.url = engine, parts, url
        self.http = httpx.Client(base_url=f"{url}/v1/projects/p/", timeout=60)

    def __call__(self, method: str, path: str, body: Any = None, *, code: int = 200) -> Any:
        """Send a request, again while the database is too slow for it on a loaded machine."""

        def send() -> httpx.Response | None:
            answer = self.http.request(method, path, json=body)
            return None if answer.status_code == 503 else answer

        answer = wait_for(send, seconds=60)
        assert answer.status_code == code, answer.text
        return answer.json()

    def deploy(self, model: str, version: str) -> None:
        body = {"name": version, "deploymentUri": "gs://other/export"}
        self.wait(self("POST", f"models/{model}/versions", body))

    def wait(self, operation: dict[str, Any]) -> None:
        name = operation["name"].removeprefix("projects/p/")
        wait_for(lambda: self("GET", name).get("done"), seconds=60)

    def ask(self, model: str, *, code: int = 200) -> str:
        answer = self("POST", f"models/{model}:predict", {"instances": ["a"]}, code=code)
        return str(answer["predictions"][0]["served_by"])


@contextmanager
def serving(parts: FakeParts) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        engine = parts.engine(url)
        server = uvicorn.Server(uvicorn.Config(create_app(engine), log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_for(lambda: server.started or not thread.is_alive(), seconds=60)
        served = Served(engine, parts, url)
        try:
            yield served
        finally:
            served.http.close()
            server.should_exit = True
            thread.join(60)


def parts_of(tmp_path: Path, name: str, database: Any) -> FakeParts:
    parts = FakeParts(tmp_path / name, database=database)
    parts.storage = FakeParts(tmp_path, database=database).storage
    parts.export("gs://other/export")
    return parts


@pytest.fixture
def start(database, tmp_path) -> Iterator[Callable[[str], Served]]:
    """Start an engine in a home of its own, with the buckets that all of them share."""
    with ExitStack() as stack:

        def begin(name: str) -> Served:
            return stack.enter_context(serving(parts_of(tmp_path, name, database)))

        yield begin


def test_a_follower_reads_predicts_and_sends_changes_to_the_leader(start):
    first, second = start("first"), start("second")
    assert first.http.get(f"{first.url}/readyz").json() == {"status": "ready", "role": "leader"}
    assert second.http.get(f"{second.url}/readyz").json() == {"status": "ready", "role": "follower"}
    second("POST", "models", {"name": "m"})
    second.deploy("m", "v1")
    assert second.ask("m") == first.ask("m") == "m/v1"  # no client is told that it is not there
    first.deploy("m", "v2")
    assert second.ask("m") == "m/v1"
    second("POST", "models/m/versions/v2:setDefault", {})
    wait_for(lambda: second.ask("m") == first.ask("m") == "m/v2", seconds=60)
    assert second("GET", "models/m")["defaultVersion"]["name"].endswith("/v2")
    second("POST", "jobs", {"jobId": "j", "trainingInput": TRAINING})
    second("POST", "jobs", {"jobId": "j", "trainingInput": TRAINING}, code=409)
    wait_for(lambda: second("GET", "jobs/j")["state"] == "RUNNING", seconds=60)
    assert [job.job_id for job in first.parts.backend.started] == ["j"]
    assert second.parts.backend.started == []
    second("GET", "jobs/j:log?limit=100")
    second("POST", "models/m/versions/nothing:setDefault", {}, code=404)


def test_what_the_leader_changes_reaches_a_follower_soon(start):
    first, second = start("first"), start("second")
    first("POST", "models", {"name": "m"})
    for version in ("v1", "v2"):
        first.deploy("m", version)
    wait_for(lambda: len(second.parts.pool.loaded) == 2, seconds=60)  # before anybody asks
    first("POST", "models/m/versions/v2:setDefault", {})
    wait_for(lambda: second.ask("m") == "m/v2", seconds=60)
    first("PATCH", "models/m/versions/v1?updateMask=manualScaling.nodes", {"manualScaling": {"nodes": 2}})
    wait_for(lambda: second.engine.router.find("m", "v1").min_nodes == 2, seconds=60)
    first.wait(first("DELETE", "models/m/versions/v1"))
    wait_for(lambda: "v1" not in [version for _, version, _ in second.engine.router.versions()], seconds=60)
    first.deploy("m", "v1")  # another one of the same name
    wait_for(lambda: len(second.parts.pool.loaded) == 3, seconds=60)


def test_a_follower_leads_when_the_leader_ends_and_nothing_is_lost_or_doubled(start, database, tmp_path):
    with serving(parts_of(tmp_path, "first", database)) as first:
        second = start("second")
        for job in ("a", "b"):
            second("POST", "jobs", {"jobId": job, "trainingInput": TRAINING})
        wait_for(lambda: second("GET", "jobs/a")["state"] == "RUNNING", seconds=60)
    wait_for(lambda: second.engine.member.lease.is_ours, seconds=60)
    assert [job.job_id for job in first.parts.backend.started] == ["a"]
    lost = wait_for(lambda: second("GET", "jobs/a").get("errorMessage"), seconds=60)
    assert "on another machine" in lost  # its processes are in the home of the first
    wait_for(lambda: [job.job_id for job in second.parts.backend.started] == ["b"], seconds=60)
    second("POST", "models", {"name": "m"})


def test_an_engine_that_only_predicts_never_leads(database, tmp_path):
    parts = parts_of(tmp_path, "server", database)
    parts.may_lead = False
    with ExitStack() as leader:
        leader.enter_context(serving(parts_of(tmp_path, "first", database)))
        with serving(parts) as server:
            server("POST", "models", {"name": "m"})  # the leader does it
            server.deploy("m", "v1")
            leader.close()
            lease, seen = server.engine.member.lease, []
            look = lease.look
            lease.look = lambda: seen.append(look()) or seen[-1]
            wait_for(lambda: sum(leader.is_gone for leader in seen) >= 3, seconds=60)
            assert not lease.is_ours
            assert server.http.post("models", json={"name": "n"}).status_code == 503
            assert server.ask("m") == "m/v1"


def test_a_follower_that_is_ending_does_not_begin_to_lead(start, database, tmp_path, monkeypatch):
    leader = start("first")
    with serving(parts_of(tmp_path, "second", database)) as follower:
        stop_runner, member = follower.engine.runner.stop, follower.engine.member

        async def outlive_the_leader() -> None:
            with leader.engine.store.fenced(None).begin() as session:
                session.execute(update(LeaseRow).values(holder="", process="", address="", expires=0.0))
            await asyncio.sleep(3 * POLL_SECONDS)
            await stop_runner()

        monkeypatch.setattr(leader.engine.member.lease, "renew", lambda: True)
        monkeypatch.setattr(follower.engine.runner, "stop", outlive_the_leader)
    assert not member.lease.is_ours


def test_a_job_that_the_same_home_prepared_is_started_and_one_of_another_home_is_not(database, tmp_path):
    parts = FakeParts(tmp_path, database=database, training_slots=2)
    store = Store(database)
    for number, home in enumerate((home_id(tmp_path), "another")):
        with store.begin() as session:
            row = JobRow(
                job_id=f"j{number}",
                kind="trainingInput",
                input=TRAINING,
                labels={},
                state="PREPARING",
                create_time="2026-01-01T00:00:00.000000Z",
                priority=0,
                home=home,
            )
            session.add(row)
    store.close()
    with serving(parts) as engine:
        wait_for(lambda: engine("GET", "jobs/j0")["state"] == "RUNNING", seconds=60)
        wait_for(lambda: engine("GET", "jobs/j1")["state"] == "FAILED", seconds=60)
    assert [job.job_id for job in parts.backend.started] == ["j0"]


def test_without_a_leader_changes_are_asked_to_come_again_and_predictions_go_on(start, database, tmp_path):
    with serving(parts_of(tmp_path, "first", database)) as first:
        second = start("second")
        second("POST", "models", {"name": "m"})
        second.deploy("m", "v1")
        assert second.ask("m") == "m/v1"
        lease = second.engine.member.lease
        lease.take = lambda leader: False  # it would lead before anybody sees that nobody does
    assert not first.engine.member.lease.renew()
    wait_for(lambda: not lease.leader_address, seconds=60)
    answer = second.http.post("models", json={"name": "n"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "No engine leads" in answer.text
    assert second.ask("m") == "m/v1"
    assert second("GET", "models/m")["name"].endswith("/m")


def test_a_leader_that_does_not_answer_and_a_request_that_was_forwarded_already_are_a_503(start):
    start("first")
    second = start("second")
    again = second.http.post("models", json={"name": "n"}, headers={FORWARDED: "somebody"})
    assert (again.status_code, again.json()["error"]["status"]) == (503, "UNAVAILABLE")
    lease = second.engine.member.lease
    lease.look = lambda: pytest.fail("not read")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lease.leader_address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        threading.Timer(1, setattr, (lease, "leader_address", "")).start()  # its lease runs out
        answer = second.http.post("models", json={"name": "n"})
        assert "may have been done or not" in answer.text
        lease.leader_address = f"http://127.0.0.1:{silent.getsockname()[1]}"
    answer = second.http.post("models", json={"name": "n"})
    assert answer.status_code == 503
    assert "may have been done or not" in answer.text
    del lease.look


def test_a_follower_changes_nothing_but_when_versions_were_used(start):
    first, second = start("first"), start("second")
    first("POST", "models", {"name": "m"})
    first.deploy("m", "v1")
    assert second.ask("m") == "m/v1"
    assert "lastUseTime" in second("GET", "models/m/versions/v1")
    store = second.engine.store
    with pytest.raises(DatabaseUnavailable, match="read-only"), store.begin() as session:
        session.scalars(select(VersionRow)).one().state = "FAILED"
    with store.begin() as session:
        changes = session.scalars(select(RouteChangeRow.seq)).all()
    assert first("GET", "models/m/versions/v1")["state"] == "READY"
    with store.begin() as session:
        assert session.scalars(select(RouteChangeRow.seq)).all() == changes  # uses are none


def test_a_reader_token_holds_on_every_engine_until_it_is_revoked(start, tmp_path):
    secret = {"Authorization": "Bearer s"}
    for home in ("first", "second"):
        (tmp_path / home / "engine").mkdir(parents=True)
        file = {"tokens": [{"sha256": token_digest("s"), "role": "deployer"}]}
        (tmp_path / home / "engine" / "tokens.json").write_text(json.dumps(file))
    first, second = start("first"), start("second")
    for engine in (first, second):
        engine.http.headers.update(secret)
    first("POST", "models", {"name": "m"})
    first.deploy("m", "v1")
    tokens = [engine("POST", "models/m:createToken", {"name": "shop"}) for engine in (first, second)]

    def code(engine: Served, token: dict[str, str]) -> int:
        headers = {"Authorization": f"Bearer {token['token']}"}
        answer = engine.http.post("models/m:predict", json={"instances": ["a"]}, headers=headers)
        return answer.status_code

    for token in tokens:
        wait_for(lambda token=token: code(second, token) == code(first, token) == 200, seconds=60)
    assert len(second("GET", "models/m/tokens")["tokens"]) == 2
    second("POST", "models/m:revokeToken", {"id": tokens[0]["id"]})
    wait_for(lambda: code(first, tokens[0]) == code(second, tokens[0]) == 401, seconds=60)
    first("POST", "models/m:revokeToken", {"id": tokens[1]["id"]})
    wait_for(lambda: code(second, tokens[1]) == 401, seconds=60)


@pytest.mark.parametrize(
    ("method", "path", "own"),
    [
        ("GET", "/v1/projects/p/models", True),
        ("GET", "/v1/projects/p/jobs/j:log", False),
        ("POST", "/v1/projects/p/models/m:predict", True),
        ("POST", "/v1/projects/p/models/m/versions/v:predict", True),
        ("POST", "/v1/projects/p:predictMany", True),
        ("POST", "/v1/projects/p/models/m:feedback", False),
        ("POST", "/v1/projects/p/jobs", False),
        ("PATCH", "/v1/projects/p/models/m", False),
        ("DELETE", "/v1/projects/p/models/m:predict", False),
        ("POST", "*", True),
    ],
)
def test_a_follower_answers_reads_and_predictions_itself(method, path, own):
    assert is_own(method, path) == own


@pytest.fixture
def store(database) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


def test_a_lease_is_taken_at_once_from_a_process_of_this_machine_that_is_dead(store, tmp_path):
    first, second = Lease(store, tmp_path / "first", "http://h:1"), Lease(store, tmp_path / "second")
    assert first.take()
    assert not second.take()
    assert second.leader_address == "http://h:1"
    machine, pid, start = process_name().split(" ")
    for process, is_dead in ((f"{machine} {pid} {start}1", True), (f"elsewhere {pid} {start}1", False)):
        with store.begin() as session:
            session.execute(update(LeaseRow).values(process=process))
        assert second.look().is_gone == is_dead
    with store.begin() as session:
        session.execute(update(LeaseRow).values(expires=0.0))
    assert second.take()
    assert second.leader_address == ""
    assert not first.renew()


def test_after_the_database_was_away_the_leader_may_renew_before_others_take_the_lease(
    store, tmp_path, monkeypatch
):
    first, second = Lease(store, tmp_path / "first"), Lease(store, tmp_path / "second")
    assert first.take()
    monkeypatch.setattr(store._outage, "reason", "away")
    with pytest.raises(DatabaseUnavailable):
        second.look()
    monkeypatch.setattr(store._outage, "reason", "")
    with store.begin() as session:
        session.execute(update(LeaseRow).values(expires=0.0))
    assert not second.take()
    assert first.renew()
    later = time.monotonic() + 6000
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not second.take()
    with store.begin() as session:
        session.execute(update(LeaseRow).values(expires=0.0))
    assert second.take()


def test_tables_that_an_older_engine_uses_are_not_upgraded(store, database, tmp_path):
    lease = Lease(store, tmp_path)
    assert lease.take()
    config = _alembic_config()
    with store.database.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
    with pytest.raises(StackError, match=r"The engine .* of an older Graft uses the database"):
        Store(database)
    with store.database.begin() as connection:
        connection.execute(update(LeaseRow).values(expires=0.0))
    Store(database).close()


def test_a_home_keeps_its_id(tmp_path: Path):
    assert home_id(tmp_path) == home_id(tmp_path) != home_id(tmp_path / "other")
    assert [path.name for path in (tmp_path / "engine").iterdir()] == ["home_id"]
