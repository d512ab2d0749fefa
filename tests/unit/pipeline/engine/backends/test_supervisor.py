from __future__ import annotations

import errno
import os

import pytest

from pipeline.engine.backends.supervisor import NOT_WRITTEN, TAKEN, cut_log, is_signal, main


def test_a_long_log_keeps_its_head_and_its_tail_and_tells_the_cut(tmp_path):
    log = tmp_path / "log.txt"
    with log.open("ab", buffering=0) as program:  # as a job has it open
        program.write(b"head" + b"x" * 20_000 + b"tail")
        assert cut_log(log, 10_000, 0) == 20_008 - 5_000
        program.write(b"more")
    text = log.read_bytes()
    assert (text[:4], text[-8:]) == (b"head", b"tailmore")
    assert len(text) < 6_000
    assert b"[15008 bytes of this log were cut: it has more than 10000.]" in text


def test_later_cuts_are_added_and_a_short_log_stays(tmp_path):
    log = tmp_path / "log.txt"
    log.write_bytes(b"x" * 10_000)
    assert cut_log(log, 10_000, 7) == 0
    with log.open("ab") as program:
        program.write(b"x")
    assert cut_log(log, 10_000, 7) == 5_001
    assert b"[5008 bytes" in log.read_bytes()


@pytest.mark.parametrize(
    ("code", "expected"), [(0, False), (1, False), (128, False), (137, True), (255, False)]
)
def test_only_the_status_of_a_signal_is_a_signal(code, expected):
    assert is_signal(code) is expected


def test_a_supervisor_that_cannot_write_its_files_takes_no_job_and_says_why(tmp_path, monkeypatch):
    directory = tmp_path / "job"
    directory.mkdir()
    (directory / "log.txt").mkdir()  # so that it cannot be opened for writing
    assert main(directory) == NOT_WRITTEN + errno.EISDIR
    assert not (directory / "supervisor.json").exists()
    os.wait()


def test_a_job_that_another_supervisor_has_is_left_to_it(tmp_path):
    (tmp_path / "supervisor.json").write_text("{}")
    assert main(tmp_path) == TAKEN
    os.wait()
