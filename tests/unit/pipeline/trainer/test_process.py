from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.trainer import process
from pipeline.trainer.process import prepare_process

NAMES = ("TF_ENABLE_ONEDNN_OPTS", "OPENBLAS_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL", "TF_USE_LEGACY_KERAS")


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(process, "_keep_freed_memory", lambda: None)  # it would last for all tests


def test_a_job_without_keras_keeps_tensorflow_from_importing_it() -> None:
    prepare_process(keras=False)
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
    assert os.environ["TF_USE_LEGACY_KERAS"] == "1"


def test_a_job_with_keras_gets_todays() -> None:
    prepare_process(keras=True)
    assert "TF_USE_LEGACY_KERAS" not in os.environ


def test_what_the_environment_says_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    prepare_process(keras=False)
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_no_garbage_collection_looks_at_what_the_import_of_tensorflow_leaves(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("import gc\nprint(gc.isenabled(), gc.get_freeze_count() > 0)\n")
    code = f"""
import gc, sys
from pipeline.trainer.process import import_tensorflow
sys.path.insert(0, {str(tmp_path)!r})
import_tensorflow()
print(gc.isenabled(), gc.get_freeze_count() > 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["False False", "True True"]
