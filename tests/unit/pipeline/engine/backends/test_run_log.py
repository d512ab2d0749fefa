from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.engine.backends.run_files import AttemptFiles
from pipeline.engine.backends.run_log import LogUpload, RunLog, attempt_note
from pipeline.storage import Storage


@pytest.fixture
def files(tmp_path: Path) -> AttemptFiles:
    return AttemptFiles(Storage({"graft": tmp_path}), "gs://graft/engine/ray/j1/1")


def read(files: AttemptFiles, *others: AttemptFiles) -> bytes:
    log = RunLog(attempts=tuple(tuple(each.log_pieces()) for each in (files, *others)))
    return log.read(Storage({"graft": Path(files._storage.directories["graft"])}), 0, log.size)


def send(upload: LogUpload, log: bytes) -> None:
    start, length = upload.next_piece(len(log))
    upload.send(log[start : start + length])


def finish(upload: LogUpload, log: bytes) -> int:
    start, num_skipped = upload.rest(len(log))
    if num_skipped:
        upload.send(b"[...]", num_read=start - upload.num_read)
    upload.send(log[upload.num_read :])
    return num_skipped


def test_the_pieces_are_the_log(files: AttemptFiles) -> None:
    upload = LogUpload(files=files, limit=1000)
    for size in (3, 3, 10, 26):
        send(upload, b"abcdefghijklmnopqrstuvwxyz"[:size])
    assert finish(upload, b"abcdefghijklmnopqrstuvwxyz.") == 0
    assert read(files) == b"abcdefghijklmnopqrstuvwxyz."
    assert [(piece.start, piece.length) for piece in files.log_pieces()] == [
        (0, 3),
        (3, 7),
        (10, 16),
        (26, 1),
    ]


@pytest.mark.parametrize(("start", "length"), [(0, 4), (2, 3), (5, 100), (9, 1), (10, 5), (3, 0)])
def test_any_part_of_it_can_be_read(files: AttemptFiles, start: int, length: int) -> None:
    files.write_log(0, b"0123")
    files.write_log(4, b"45")
    files.write_log(6, b"6789")
    log = RunLog(attempts=(tuple(files.log_pieces()),))
    assert log.read(files._storage, start, length) == b"0123456789"[start : start + length]


def test_of_a_long_log_the_beginning_and_the_end_are_kept(files: AttemptFiles) -> None:
    upload, log = LogUpload(files=files, limit=40), bytes(range(100))
    for size in range(0, 100, 7):
        send(upload, log[:size])
    assert finish(upload, log) == 70
    assert read(files) == log[:20] + b"[...]" + log[90:]


def test_a_log_whose_middle_the_supervisor_cut_ends_as_it_does(files: AttemptFiles) -> None:
    upload, log = LogUpload(files=files, limit=40), bytes(range(60))
    send(upload, log)
    send(upload, log)
    cut = log[:10] + b"[cut]" + log[50:]
    assert finish(upload, cut) == 60 - 20 - 10
    assert read(files) == log[:20] + b"[...]" + cut[-10:]


def test_the_logs_of_attempts_follow_each_other(files: AttemptFiles) -> None:
    second = AttemptFiles(files._storage, "gs://graft/engine/ray/j1/2")
    files.write_log(0, b"one\n")
    second.write_log(0, b"two\n")
    assert read(files, second) == b"one\n" + attempt_note(2) + b"two\n"
