from __future__ import annotations

import errno

import pytest

from pipeline.engine.v1.shortages import engine_failed, shortage


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "x"), "full, or has no inodes"),
        (OSError(errno.EMFILE, "x"), "no file descriptors"),
        (OSError(errno.ENOMEM, "x"), "no memory"),
        (MemoryError(), "no memory"),
        (RuntimeError("database or disk is full"), "full, or has no inodes"),
    ],
)
def test_a_shortage_is_named(error, expected):
    assert expected in shortage(error)
    wrapped = KeyError("x")
    wrapped.__cause__ = error
    assert expected in shortage(wrapped)


def test_other_errors_are_none():
    assert shortage(OSError(errno.ENOENT, "x")) is None
    assert shortage(ValueError("x")) is None
    assert engine_failed(ValueError("x")) == "The engine failed; see its log."
