from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.engine.control import token_file
from pipeline.errors import ConfigError, StackError
from pipeline.stack import control, gateway, join_file as files, joining, link, offer as offers, team
from pipeline.stack.environment import SECOND_ENGINE, component_names
from pipeline.stack.join_file import JoinFile, ensure_join_file, join_file, parse_address
from pipeline.stack.link import Link, LinkSpec, ask_settings, connect, link_problem, write_classifiers
from pipeline.stack.machines import read_machines
from pipeline.stack.processes import COMPONENT, _component_name
from pipeline.stack.profile import POSTGRES, REDIS
from pipeline.stack.servers import password_file, write_secret
from pipeline.stack.services import Services
from pipeline.stack.shared_buckets import check_shared
from pipeline.stack.state import StackState, load_state, save_state, write_private
from pipeline.types import Profile

WAIT_SECONDS = 20
PORTS = {POSTGRES: 8103, REDIS: 8104, SECOND_ENGINE: 8105}
STATE = StackState(engine_port=8101, airflow_port=8102, profile=Profile.TEAM, workers=2, ports=PORTS)
STORE = "graft=s3://company-bucket/graft"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a stack."""
    home = tmp_path / "stack"
    (home / "classifiers").mkdir(parents=True)
    (home / "classifiers" / "mine.yaml").write_text("name: mine\n")
    for name in (POSTGRES, REDIS):
        write_secret(password_file(home, name), f"{name}-password")
    write_secret(token_file(home), '{"tokens": []}')
    ensure_join_file(home)
    return home


@pytest.fixture
def file(home: Path) -> JoinFile:
    return JoinFile.read(join_file(home))


def services_of(home: Path) -> Services:
    return Services(
        engine_database="postgresql+psycopg://graft@127.0.0.1:8103/graft",
        airflow_database="postgresql+psycopg://graft@127.0.0.1:8103/airflow",
        database_password_file=password_file(home, POSTGRES),
        broker="redis://127.0.0.1:8104/0",
        broker_password_file=password_file(home, REDIS),
    )


def write_offer(home: Path, **targets: int) -> dict[str, Any]:
    settings = Settings(home=home, buckets=STORE, keep_versions=7)
    offer = offers.offer_settings(settings, STATE, services_of(home))
    write_private(gateway.gateway_file(home), {**offer, "targets": targets})
    return gateway.read_offer(home)


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[str]:
    """Run a gateway; give its address."""
    answers = gateway.Gateway(home, Settings(home=home), own_slots=4).answer
    server = await asyncio.start_server(
        answers, "127.0.0.1", 0, ssl=files.server_context(home), limit=files.LINE_BYTES
    )
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def echoing() -> AsyncIterator[int]:
    """Run a server that sends back what it gets; give its port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100):
                writer.write(data)
        finally:
            writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def refusal(address: str, file: JoinFile, **request: Any) -> Awaitable[str]:
    async def ask() -> str:
        with pytest.raises(StackError) as caught:
            await connect(address, file, {"want": "settings", "versions": files.own_versions(), **request})
        return str(caught.value)

    return ask()


class TestGateway:
    def test_offers_the_settings_with_the_passwords(self, home: Path, file: JoinFile) -> None:
        offered = write_offer(home)

        async def ask() -> dict[str, Any]:
            async with serving(home) as address:
                return await asyncio.to_thread(ask_settings, address, file)

        settings = asyncio.run(ask())
        assert settings == offered
        assert settings["database_password"] == "postgres-password"
        assert settings["broker_password"] == "redis-password"
        assert (settings["engine_port"], settings["airflow_port"], settings["ports"]) == (8101, 8102, PORTS)
        assert (settings["buckets"], settings["keep_versions"]) == (STORE, 7)

    def test_refuses_another_token_another_version_and_unknown_servers(
        self, home: Path, file: JoinFile
    ) -> None:
        write_offer(home)
        older = {**files.own_versions(), "graft": "0.0.1"}

        async def ask() -> list[str]:
            async with serving(home) as address:
                return [
                    await refusal(address, replace(file, token="guessed")),
                    await refusal(address, file, versions=older),
                    await refusal(address, file, want="ssh"),
                    await refusal(address, file, want="machine", name="a", slots=1, digest="old"),
                ]

        token, version, server, settings = asyncio.run(ask())
        assert "refuses the token" in token
        assert "guessed" not in token
        assert "Install the same here" in version
        assert "does not answer" in server
        assert "run `graft join" in settings

    def test_versions_that_differ_are_named(self, home: Path, file: JoinFile, monkeypatch: Any) -> None:
        write_offer(home)
        theirs = files.own_versions()
        monkeypatch.setattr(link, "own_versions", lambda: {**theirs, "airflow": "3.0.0"})

        async def ask() -> str:
            async with serving(home) as address:
                return await refusal(address, file, versions=link.own_versions())

        assert f"airflow {theirs['airflow']} there, 3.0.0 here" in asyncio.run(ask())

    def test_another_certificate_is_not_trusted(self, home: Path, tmp_path: Path) -> None:
        write_offer(home)
        other = ensure_join_file(tmp_path / "other")

        async def ask() -> str:
            async with serving(home) as address:
                return await refusal(address, other)

        assert "another certificate than the join file" in asyncio.run(ask())

    def test_a_place_without_a_gateway_is_named(self, file: JoinFile) -> None:
        async def ask() -> list[str]:
            async with echoing() as port:
                return [
                    await refusal(f"127.0.0.1:{port}", file),
                    await refusal(f"127.0.0.1:{free_port()}", file),
                ]

        other, nothing = asyncio.run(ask())
        assert "is no gateway of Graft" in other
        assert "No team's stack answers at 127.0.0.1:" in nothing
        assert "graft up --profile team --address HOST" in nothing

    def test_files_are_for_their_owner_alone_and_stay(self, home: Path, file: JoinFile) -> None:
        for path in (join_file(home), files.key_file(home)):
            assert path.stat().st_mode & 0o777 == 0o600
        assert ensure_join_file(home) == file
        assert file.token not in repr(file)
        assert "PRIVATE" not in join_file(home).read_text()


def test_a_file_that_the_stack_did_not_send_is_neither_removed_nor_written_over(tmp_path: Path) -> None:
    directory = tmp_path / "classifiers"
    write_classifiers(directory, {"a.yaml": "name: a\n", "b.yaml": "name: b\n"})
    (directory / "own.yaml").write_text("name: own\n")
    with pytest.raises(StackError, match=r"own\.yaml is not of the stack.*move it away"):
        write_classifiers(directory, {"own.yaml": "name: other\n"})
    assert (directory / "own.yaml").read_text() == "name: own\n"
    write_classifiers(directory, {"b.yaml": "name: b2\n"})
    assert {path.name for path in directory.glob("*.yaml")} == {"b.yaml", "own.yaml"}
    assert (directory / "b.yaml").read_text() == "name: b2\n"


class TestLink:
    def test_carries_bytes_brings_classifiers_and_is_counted(
        self, home: Path, file: JoinFile, tmp_path: Path
    ) -> None:
        there = tmp_path / "there"
        (there / "servers").mkdir(parents=True)
        write_classifiers(there / "classifiers", {"gone.yaml": "name: gone\n"})
        (there / "classifiers" / "own.yaml").write_text("name: own\n")
        port = free_port()

        async def run() -> bytes:
            async with echoing() as echo:
                offer = write_offer(home, echo=echo)
                async with serving(home) as address:
                    spec = LinkSpec(
                        address=address,
                        name="far",
                        slots=3,
                        digest=gateway.digest_of(offer),
                        targets={"echo": port},
                    )
                    task = asyncio.ensure_future(Link(there, spec, file).run())
                    await until(lambda: link_problem(there) is None)
                    (machine,) = read_machines(home)
                    assert (machine.name, machine.slots) == ("far", 3)
                    assert json.loads((home / "servers" / "machines.json").read_text())["slots"] == 4 + 3
                    names = {path.name for path in (there / "classifiers").glob("*.yaml")}
                    assert names == {"mine.yaml", "own.yaml"}
                    (home / "classifiers" / "new.yaml").write_text("name: new\n")
                    await until((there / "classifiers" / "new.yaml").exists)
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"over there")
                    answer = await asyncio.wait_for(reader.readexactly(10), WAIT_SECONDS)
                    writer.close()
                    task.cancel()
                    await asyncio.wait([task])
                    await until(lambda: not read_machines(home))
                    return answer

        assert asyncio.run(run()) == b"over there"

    def test_carries_nothing_once_the_settings_have_changed(
        self, home: Path, file: JoinFile, tmp_path: Path
    ) -> None:
        there = tmp_path / "there"
        (there / "servers").mkdir(parents=True)
        port = free_port()

        async def run() -> tuple[str | None, bytes]:
            async with echoing() as echo:
                write_offer(home, echo=echo)
                async with serving(home) as address:
                    spec = LinkSpec(
                        address=address, name="far", slots=1, digest="old", targets={"echo": port}
                    )
                    task = asyncio.ensure_future(Link(there, spec, file).run())
                    await until(lambda: "changed" in (link_problem(there) or ""))
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"x")
                    answer = b""
                    with suppress(ConnectionError):
                        answer = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
                    writer.close()
                    task.cancel()
                    await asyncio.wait([task])
                    return link_problem(there), answer

        problem, answer = asyncio.run(run())
        assert "run `graft join" in (problem or "")
        assert answer == b""


class TestJoin:
    @pytest.fixture(autouse=True)
    def _extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(joining, "check_extra", lambda: None)

    def join(self, home: Path, file: JoinFile, offer: dict[str, Any], monkeypatch: Any) -> None:
        monkeypatch.setattr(joining, "ask_settings", lambda address, file: offer)
        copied = home.parent / "copied.json"
        file.write(copied)
        joining.join(Settings(home=home), "10.0.0.5", token_file=copied)

    def test_directory_buckets_are_refused_by_name(
        self, home: Path, file: JoinFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        offer = write_offer(home) | {"buckets": f"graft={tmp_path}/data,more=s3://company-bucket"}
        message = rf"directories.*do not see: gs://graft \({tmp_path}/data\)\. Map .*s3://"
        with pytest.raises(StackError, match=message):
            self.join(tmp_path / "there", file, offer, monkeypatch)
        assert not (tmp_path / "there").exists()

    def test_other_dag_directories_are_refused(
        self, home: Path, file: JoinFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        offer = write_offer(home) | {"num_dag_directories": 2}
        with pytest.raises(StackError, match="has 2 directories in GRAFT_DAGS, and here are 0"):
            self.join(tmp_path / "there", file, offer, monkeypatch)

    def test_home_of_a_stack_is_refused(self, tmp_path: Path) -> None:
        write_secret(tmp_path / "airflow" / "pgpass", "")
        with pytest.raises(StackError, match=r"has a stack of its own.*GRAFT_HOME="):
            joining._own_state(tmp_path)

    def test_a_port_that_is_taken_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            state = replace(STATE, engine_port=port, joined="10.0.0.5:8470")
            with pytest.raises(StackError, match=f"Port {port} of 127.0.0.1, which engine has in the stack"):
                joining._check_ports(state)

    @pytest.mark.parametrize("text", ["{}", "no json", '{"token": 1}'])
    def test_a_file_that_is_no_join_file_is_named(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "join.json").write_text(text)
        with pytest.raises(ConfigError, match=r"join\.json is no join file.*copy it again"):
            JoinFile.read(tmp_path / "join.json")

    def test_no_secret_is_on_a_command_line_or_in_a_variable(self, home: Path) -> None:
        state = replace(STATE, workers=1, joined="10.0.0.5:8470")
        parts = team.build_worker(Settings(home=home), state, services_of(home), name="far-1", slots=3)
        assert tuple(part.name for part in parts) == component_names(state) == ("link", "airflow-worker-1")
        token = JoinFile.read(join_file(home)).token
        for part in parts:
            text = " ".join([*part.command, *part.variables.values()])
            secret = [word for word in (token, "postgres-password", "redis-password") if word in text]
            assert secret == []
            assert not set(part.variables) & set(team.WITHHELD)
        worker = parts[-1]
        assert "worker-1@far-1" in worker.command
        assert worker.command[worker.command.index("--concurrency") + 1] == "3"
        assert (
            worker.variables["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8102/execution/"
        )

    def test_parts_are_found_by_their_commands(self, home: Path) -> None:
        state = replace(STATE, workers=1, joined="10.0.0.5:8470")
        parts = list(team.build_worker(Settings(home=home), state, services_of(home), name="f", slots=1))
        parts += team._gateway(Settings(home=home), replace(STATE, address="10.0.0.5:8470"), {})
        for part in parts:
            text = " ".join(part.command)
            match = COMPONENT.search(text)
            assert match is not None, text
            assert _component_name(match, text) == part.name

    def test_up_is_refused_in_a_home_that_has_joined(self, tmp_path: Path) -> None:
        save_state(tmp_path, StackState(profile=Profile.TEAM, workers=1, joined="10.0.0.5:8470"))
        assert load_state(tmp_path).joined == "10.0.0.5:8470"
        write_secret(tmp_path / "airflow" / "pgpass", "")
        with pytest.raises(StackError, match=r"has joined the stack at 10\.0\.0\.5:8470.*graft join"):
            control.up(Settings(home=tmp_path))


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("10.0.0.5", ("10.0.0.5", 8470)),
            ("host.example:9", ("host.example", 9)),
            ("[fd00::5]:9", ("fd00::5", 9)),
            ("[fd00::5]", ("fd00::5", 8470)),
            ("fd00::5", ("fd00::5", 8470)),
        ],
    )
    def test_is_read(self, text: str, wanted: tuple[str, int]) -> None:
        assert parse_address(text) == wanted

    @pytest.mark.parametrize("text", ["", ":9", "host:0", "host:port", "http://host", "a@b", "host:70000"])
    def test_what_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match="An address is HOST or HOST:PORT"):
            parse_address(text)

    def test_a_stack_with_directory_buckets_lets_nobody_join(self, tmp_path: Path) -> None:
        with pytest.raises(StackError, match=rf"gs://graft \({tmp_path}/buckets/graft\)"):
            check_shared(Settings(home=tmp_path))
        check_shared(Settings(home=tmp_path, buckets=STORE))
        check_shared(Settings(home=tmp_path, bucket="company"))
