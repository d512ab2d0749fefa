"""What every kind of bucket does: tried with directories and fakes, and in `make soak` with servers."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from pipeline.errors import ObjectNotFound, StorageError
from pipeline.storage import Storage

RACERS = 20


class BucketContract:
    """The tests; a subclass has the fixture `both`, a storage with a bucket `graft`."""

    def test_gives_back_the_newest_bytes(self, both: Storage) -> None:
        for data in (b"1", b"", b"22"):
            both.write_bytes("gs://graft/a/b", data)
            assert both.read_bytes("gs://graft/a/b") == data
            assert both.local_path("gs://graft/a/b").read_bytes() == data

    def test_has_no_object_that_was_not_written(self, both: Storage) -> None:
        for call in (both.read_bytes, both.read_json, both.local_path):
            with pytest.raises(ObjectNotFound) as caught:
                call("gs://graft/none")
            assert not caught.value.transient
        assert not both.exists("gs://graft/none")
        both.delete("gs://graft/none")

    @pytest.mark.parametrize("name", ["a b", "ü", "100%", "q?x=1", "h#1", "sp+ce"])
    def test_takes_any_name(self, both: Storage, name: str) -> None:
        both.write_bytes(f"gs://graft/d/{name}", b"1")
        assert both.read_bytes(f"gs://graft/d/{name}") == b"1"
        assert both.list_uris("gs://graft/d/") == [f"gs://graft/d/{name}"]

    def test_creates_once_and_keeps_the_first(self, both: Storage) -> None:
        assert both.create_bytes("gs://graft/a", b"first")
        assert not both.create_bytes("gs://graft/a", b"second")
        assert not both.write_large("gs://graft/a", lambda file: file.write(b"third"), if_absent=True)
        assert both.read_bytes("gs://graft/a") == b"first"

    def test_lets_one_of_many_racers_create(self, both: Storage) -> None:
        gate, won = threading.Barrier(RACERS), []

        def race(number: int) -> None:
            gate.wait(60)
            won.append(both.create_bytes("gs://graft/a/b/c", str(number).encode()))

        both.exists("gs://graft/a")
        racers = [threading.Thread(target=race, args=(number,)) for number in range(RACERS)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(120)
        assert sorted(won) == [False] * (RACERS - 1) + [True]

    def test_writes_a_large_object_piece_by_piece(self, both: Storage) -> None:
        def write(file: BinaryIO) -> None:
            file.write(b"head")
            for _ in range(3):
                file.write(bytes(2**22))
            file.seek(0)
            file.write(b"HEAD")  # as a zip's header is filled in at the end

        assert both.write_large("gs://graft/a", write)
        assert both.read_bytes("gs://graft/a") == b"HEAD" + bytes(3 * 2**22)

    def test_a_full_disk_is_a_storage_error(self, both: Storage) -> None:
        def write(file: BinaryIO) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(StorageError, match=r"Writing .*a failed: .*No space left"):
            both.write_large("gs://graft/a", write)
        assert not both.exists("gs://graft/a")

    def test_removes_what_killed_writers_left_long_ago(self, both: Storage, tmp_path: Path) -> None:
        both.write_bytes("gs://graft/d/a", b"1")
        directory = both.local_path("gs://graft/d/a").parent
        old, young, theirs = (directory / name for name in (".a.1-2-3.part", ".b.1-2-3.part", "c.part"))
        for path in (old, young, theirs):
            path.write_bytes(b"half")
        for path in (old, theirs):  # `theirs` is a download that goes on where it was
            os.utime(path, (1000, 1000))
        assert both.delete_parts("gs://graft/", before=2000) == 1
        assert [path.exists() for path in (old, young, theirs)] == [False, True, True]
        assert both.read_bytes("gs://graft/d/a") == b"1"

    def test_lists_copies_and_deletes_trees(self, both: Storage, tmp_path: Path) -> None:
        keys = [f"a/{number}" for number in range(7)] + ["a/b/2", "ab/3"]
        for key in keys:
            both.write_bytes(f"gs://graft/{key}", key.encode())
        assert both.list_uris("gs://graft/a/") == sorted(f"gs://graft/{key}" for key in keys[:-1])
        assert both.list_uris("gs://graft/a") == sorted(f"gs://graft/{key}" for key in keys)
        both.copy_tree("gs://graft/a", "gs://graft/copy")
        both.download_tree("gs://graft/copy", tmp_path / "here", may_link=True)
        assert (tmp_path / "here" / "b" / "2").read_text() == "a/b/2"
        both.upload_tree(tmp_path / "here", "gs://graft/again")
        assert len(both.list_uris("gs://graft/again/")) == 8
        both.delete_tree("gs://graft/a")
        assert both.list_uris("gs://graft/a/") == []
        assert both.exists("gs://graft/ab/3")

    def test_says_which_of_many_exist(self, both: Storage) -> None:
        uris = [f"gs://graft/{folder}/{number}" for folder in ("a", "b") for number in range(20)]
        for uri in uris[::2]:
            both.write_bytes(uri, b"1")
        assert both.existing([*uris, "gs://graft/none", "gs://graft/c/1"]) == set(uris[::2])
        assert both.existing([]) == set()
