from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

from pipeline.engine.runtimes import RUNTIMES, find_runtime
from pipeline.errors import InvalidArgument
from pipeline.ml_v1 import RUNTIME_VERSION


def test_the_default_runtime_is_the_environment_the_engine_runs_in():
    runtime = RUNTIMES[RUNTIME_VERSION]
    assert version("tensorflow").startswith(f"{runtime.tensorflow}.")
    assert version("keras").startswith(f"{runtime.keras}.")
    assert runtime.python == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_an_unknown_one_is_refused_with_the_list():
    assert find_runtime(None, None, where="version") is RUNTIMES[RUNTIME_VERSION]
    with pytest.raises(InvalidArgument, match=r"known: 2.21 .*Received: '1.4'") as caught:
        find_runtime("1.4", None, where="version")
    assert caught.value.field == "version.runtime_version"
