from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline.stack.ray_cluster import host


def test_the_files_of_ports_that_ray_waits_for_are_there_and_complete(tmp_path: Path):
    host._write_ports(tmp_path, "n1")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "dashboard_agent_listen_port_n1": "52365",
        "metrics_agent_port_n1": "52366",
        "metrics_export_port_n1": "52367",
        "runtime_env_agent_port_n1": "52368",
    }


def test_what_an_agent_wrote_itself_stays(tmp_path: Path):
    (tmp_path / "metrics_agent_port_n1").write_text("1234")
    host._write_ports(tmp_path, "n1")
    assert (tmp_path / "metrics_agent_port_n1").read_text() == "1234"


def test_it_refuses_to_run_outside_of_namespaces() -> None:
    program = [sys.executable, host.__file__, "{}"]
    refused = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "the first process of a host" in refused.stderr
