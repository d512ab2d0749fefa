from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

from pipeline.engine.runtimes import RUNTIMES, find_runtime, find_serving_runtime, read_aliases
from pipeline.errors import ConfigError, InvalidArgument
from pipeline.ml_v1 import RUNTIME_VERSION


def test_the_default_runtime_is_the_environment_the_engine_runs_in():
    runtime = RUNTIMES[RUNTIME_VERSION]
    assert version("tensorflow").startswith(f"{runtime.tensorflow}.")
    assert version("keras").startswith(f"{runtime.keras}.")
    assert runtime.python == f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize("name", ["1.2", "1.15", "2.0", "2.11", "2.20"])
def test_versions_of_older_ones_are_served_by_the_newest(name):
    assert find_serving_runtime(name, where="version").name == RUNTIME_VERSION


@pytest.mark.parametrize("name", ["2.22", "3.0", "banana", "2.11.1"])
def test_versions_of_newer_ones_are_refused(name):
    with pytest.raises(InvalidArgument, match="GRAFT_ENGINE_RUNTIME_ALIASES"):
        find_serving_runtime(name, where="version")


def test_a_job_of_an_alias_may_name_any_python():
    aliases = read_aliases("1.15=2.21, nightly = 2.21,")
    for name in aliases:
        assert find_runtime(name, "3.7", where="training_input", aliases=aliases).name == RUNTIME_VERSION
    assert find_serving_runtime("nightly", where="version", aliases=aliases).name == RUNTIME_VERSION
    with pytest.raises(InvalidArgument, match="Runtime 2.21 has Python 3.11. Received: '3.7'"):
        find_runtime("2.21", "3.7", where="training_input", aliases=aliases)


@pytest.mark.parametrize("text", ["1.15", "1.15=2.9", "=2.21"])
def test_an_alias_of_nothing_is_refused(text):
    with pytest.raises(ConfigError, match="is a list such as 1.15=2.21"):
        read_aliases(text)


def test_an_unknown_one_is_refused_with_the_list():
    assert find_runtime(None, None, where="version") is RUNTIMES[RUNTIME_VERSION]
    with pytest.raises(InvalidArgument, match=r"known: 2.21 .*Received: '1.4'") as caught:
        find_runtime("1.4", None, where="version")
    assert caught.value.field == "version.runtime_version"
