from __future__ import annotations

from pathlib import Path

from pipeline.engine.control import engine_arguments


def test_engine_arguments_start_the_module_with_host_port_and_home() -> None:
    arguments = engine_arguments(host="127.0.0.1", port=8500, home=Path("/srv/graft"))
    assert arguments == (
        *("-m", "pipeline.engine", "--host", "127.0.0.1", "--port", "8500"),
        *("--home", "/srv/graft"),
    )
