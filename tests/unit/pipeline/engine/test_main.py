from __future__ import annotations

import socket

import pytest

from pipeline.engine.__main__ import check_exposure, claim_home, listen, main
from pipeline.errors import ConfigError, StackError


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_an_open_engine_refuses_to_be_reached_from_elsewhere(host, tmp_path):
    with pytest.raises(ConfigError, match="Refusing to listen on"):
        check_exposure(host, tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_tokens(host, tmp_path):
    check_exposure(host, tmp_path)


def test_a_port_in_use_is_a_clear_error_and_exit_code_1(tmp_path, caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            StackError, match=f"127.0.0.1:{port}: Address already in use. Choose another --port"
        ):
            listen("127.0.0.1", port)
        assert main(["--port", str(port), "--home", str(tmp_path)]) == 1
    assert "Address already in use" in caplog.text


def test_two_engines_cannot_have_the_same_home(tmp_path):
    with claim_home(tmp_path), pytest.raises(StackError, match="Another engine runs on"):
        claim_home(tmp_path)
    claim_home(tmp_path).close()
