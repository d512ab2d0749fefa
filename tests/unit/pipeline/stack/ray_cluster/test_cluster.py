from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from pipeline.errors import StackError
from pipeline.stack.ray_cluster import RayCluster, cluster, network
from pipeline.stack.state import free_ports


@pytest.fixture
def program(tmp_path: Path) -> Path:
    program = tmp_path / "environment" / "bin" / "ray"
    program.parent.mkdir(parents=True)
    program.touch()
    (program.parent / "python").touch()
    return program


def test_without_ray_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cluster.shutil, "which", lambda name: f"/bin/{name}")
    with pytest.raises(StackError, match=r"no Ray at .*nowhere\. `make ray` installs it"):
        RayCluster(tmp_path, ray=tmp_path / "nowhere").up()


def test_without_its_tools_it_names_them(tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None if name == "ip" else f"/bin/{name}")
    with pytest.raises(StackError, match="needs ip: install iproute2"):
        RayCluster(tmp_path, ray=program).up()


def test_only_root_may_make_namespaces(tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StackError, match="run it as root"):
        RayCluster(tmp_path, ray=program).up()
    assert not (tmp_path / "ray").exists()


def test_hosts_see_the_buckets_and_the_interpreters_but_not_the_home(tmp_path: Path, program: Path):
    home = tmp_path / "home"
    bucket = home / "buckets" / "graft"
    bucket.mkdir(parents=True)
    shown = RayCluster(home, directories=[bucket], ray=program)._shown
    in_home = [path for path in shown if Path(path).is_relative_to(home)]
    assert in_home == [str(bucket), str(home / "ray" / "token")]
    assert str(program.parent.parent) in shown
    assert not any(Path(path) in home.parents or Path(path) == home for path in shown)


def test_the_token_is_private_and_stays(tmp_path: Path):
    first = RayCluster(tmp_path)
    first.directory.mkdir()
    first._keep_token()
    token = first.token_file.read_text()
    RayCluster(tmp_path)._keep_token()
    assert first.token_file.read_text() == token
    assert len(token) > 40
    assert first.token_file.stat().st_mode & 0o777 == 0o600


def test_the_head_runs_no_jobs_and_nodes_find_it(tmp_path: Path, program: Path):
    made = RayCluster(tmp_path, ray=program)
    head, node = made._command("head", 3), made._command("node2", 3)
    assert {"--head", "--num-cpus=0", "--node-ip-address=10.77.0.1"} <= set(head)
    assert {"--address=10.77.0.1:6379", "--num-cpus=3", "--node-ip-address=10.77.0.3"} <= set(node)


def test_an_engine_gets_all_it_needs(tmp_path: Path):
    made = RayCluster(tmp_path)
    made.directory.mkdir()
    made._write_state(18265, {})
    assert made.status.hosts == ()
    assert made.status.environ == {
        "GRAFT_ENGINE_BACKEND": "ray",
        "GRAFT_ENGINE_RAY_ADDRESS": "http://127.0.0.1:18265",
        "GRAFT_ENGINE_RAY_TOKEN_FILE": str(tmp_path / "ray" / "token"),
        "GRAFT_ENGINE_RAY_PYTHON": sys.executable,
        "GRAFT_ENGINE_RAY_DRIVER_PYTHON": str(made._ray.absolute().parent / "python"),
        "GRAFT_ENGINE_RAY_SHARES_DIRECTORIES": "true",
    }


def test_down_without_a_cluster_ends_nothing(tmp_path: Path):
    assert RayCluster(tmp_path).down() == 0


def test_what_comes_in_at_the_port_goes_to_the_dashboard_and_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(network, "enter_new_network", lambda: None)
    asyncio.run(ask_through_the_port())


async def ask_through_the_port() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    dashboard = await asyncio.start_server(answer, "127.0.0.1", 0)
    [port] = free_ports(1)
    place = dashboard.sockets[0].getsockname()[1]
    serving = asyncio.create_task(network.serve(port, "127.0.0.1", place))
    reader, writer = await connect(port)
    writer.write(b"hello")
    writer.write_eof()
    assert await reader.read() == b"HELLO"
    writer.close()
    serving.cancel()
    dashboard.close()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(1000):
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
    raise AssertionError("it does not listen")
