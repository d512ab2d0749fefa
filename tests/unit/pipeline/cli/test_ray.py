from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.output import ExitCode
from pipeline.errors import StackError
from pipeline.stack.ray_cluster import RayCluster
from pipeline.stack.ray_cluster.cluster import RayStatus

Graft = Callable[..., Any]
STATUS = RayStatus(address="http://127.0.0.1:4", token_file="/a home/ray/token", hosts=("head", "node1"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def up(cluster: RayCluster, **options: Any) -> RayStatus:
        calls.append({"ray": cluster._ray, "buckets": cluster._directories, **options})
        return STATUS

    monkeypatch.setattr(RayCluster, "up", up)
    return calls


def test_up_says_what_leads_an_engine_there(graft: Graft, home: Path, asked: list[dict[str, Any]]) -> None:
    lines = graft("ray", "up", "--nodes", "2", "--cpus", "3", "--ray", "/opt/ray/bin/ray").stdout.splitlines()
    assert lines[0] == "Ray runs: head, node1. Its dashboard: http://127.0.0.1:4"
    assert "  export GRAFT_ENGINE_RAY_TOKEN_FILE='/a home/ray/token'" in lines
    buckets = [home / "buckets" / "graft"]
    program = Path("/opt/ray/bin/ray")
    assert asked == [{"ray": program, "buckets": buckets, "nodes": 2, "cpus": 3, "port": None}]


def test_up_as_json_is_one_document(graft: Graft, asked: list[dict[str, Any]]) -> None:
    document = graft("ray", "up", "--json").document
    assert document["hosts"] == ["head", "node1"]
    assert document["environ"]["GRAFT_ENGINE_BACKEND"] == "ray"
    assert asked[0]["nodes"] == 1


def test_a_machine_that_cannot_have_it_is_an_error(graft: Graft, monkeypatch: pytest.MonkeyPatch) -> None:
    def up(cluster: RayCluster, **options: Any) -> RayStatus:
        raise StackError("`graft ray up` needs ip: install iproute2 and util-linux.")

    monkeypatch.setattr(RayCluster, "up", up)
    outcome = graft("ray", "up")
    assert outcome.code == ExitCode.ERROR
    assert "needs ip" in outcome.stderr


def test_down_without_a_cluster_says_so(graft: Graft) -> None:
    assert graft("ray", "down").stdout == "Nothing was running.\n"
    assert graft("ray", "down", "--json").document == {"ended": 0}
