from __future__ import annotations

import gzip
import json

import pytest

from pipeline.engine.jobs import batch
from pipeline.engine.jobs.batch import Results, expand_paths, frames_of
from pipeline.errors import FailedPrecondition
from pipeline.storage import Storage


class TestFrames:
    def test_lines_keep_their_numbers_and_blank_ones_do_not_count(self, tmp_path):
        path = tmp_path / "lines"
        path.write_bytes(b"a\n\n  b \r\nc")
        assert list(frames_of(path, 2)) == [[(1, b"a"), (3, b"b")], [(4, b"c")]]

    def test_a_frame_is_cut_at_its_size_but_a_long_line_stays_whole(self, tmp_path, monkeypatch):
        monkeypatch.setattr(batch, "FRAME_BYTES", 5)
        path = tmp_path / "lines"
        path.write_bytes(b"aa\nbbb\nccccccccc\nd\n")
        assert [[line for _, line in frame] for frame in frames_of(path, 100)] == [
            [b"aa", b"bbb"],
            [b"ccccccccc"],
            [b"d"],
        ]

    def test_gzipped_lines_are_read_whatever_the_name(self, tmp_path):
        path = tmp_path / "lines"
        path.write_bytes(gzip.compress(b"a\n\nb\n"))
        assert list(frames_of(path, 2)) == [[(1, b"a"), (3, b"b")]]

    @pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:12] + b"xx" + data[14:]])
    def test_a_damaged_gzip_is_named(self, tmp_path, damage):
        path = tmp_path / "lines"
        path.write_bytes(damage(gzip.compress(b"abc\n" * 1000)))
        with pytest.raises(FailedPrecondition, match="The gzipped input is damaged"):
            list(frames_of(path, 2))

    def test_a_small_file_that_unpacks_to_too_much_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(batch, "MAX_LINE_BYTES", 1000)
        monkeypatch.setattr(batch, "MAX_INPUT_BYTES", 2000)
        for text in (b"a" * 1001, b"ab\n" * 1000):
            path = tmp_path / "lines"
            path.write_bytes(gzip.compress(text))
            with pytest.raises(FailedPrecondition, match="1000 bytes at most, a file 2000, unpacked"):
                list(frames_of(path, 2))


class TestResults:
    def test_files_are_cut_at_their_size_and_named_with_their_number(self, tmp_path, monkeypatch):
        monkeypatch.setattr(batch, "SHARD_BYTES", 5)
        results, storage = Results(tmp_path), Storage({"b": tmp_path / "bucket"})
        for number in range(4):
            results.add(b"line %d\n" % number, 1, [])
        results.upload(storage, "gs://b/out/")
        shards = [f"gs://b/out/prediction.results-{index:05d}-of-00004" for index in range(4)]
        assert storage.list_uris("gs://b/out/prediction.results") == shards
        assert b"".join(map(storage.read_bytes, shards)) == b"line 0\nline 1\nline 2\nline 3\n"

    def test_errors_are_named_up_to_a_number_and_all_counted(self, tmp_path, monkeypatch):
        monkeypatch.setattr(batch, "MAX_ERRORS", 3)
        results, storage = Results(tmp_path), Storage({"b": tmp_path / "bucket"})
        results.add(b"", 0, ["a", "b"])
        results.add(b"", 0, ["c", "d", "e"])
        results.upload(storage, "gs://b/out")
        text = storage.read_bytes("gs://b/out/prediction.errors_stats-00000-of-00001").decode()
        rows = [json.loads(line) for line in text.splitlines()]
        assert [(row["error"], row["count"]) for row in rows[:3]] == [("a", 1), ("b", 1), ("c", 1)]
        assert rows[3] == {"error": "Further lines failed; they are not named.", "count": 2}
        assert (results.num_predictions, results.num_errors) == (0, 5)
        assert storage.read_bytes("gs://b/out/prediction.results-00000-of-00001") == b""


class TestPaths:
    @pytest.fixture
    def storage(self, tmp_path):
        storage = Storage({"b": tmp_path})
        for key in ("in/a-1", "in/a-2", "in/b"):
            storage.write_bytes(f"gs://b/{key}", b"x")
        return storage

    def test_a_trailing_star_takes_every_object_of_the_prefix_once(self, storage):
        paths = ["gs://b/in/b", "gs://b/in/a-*", "gs://b/in/a-2"]
        assert expand_paths(storage, paths) == ["gs://b/in/b", "gs://b/in/a-1", "gs://b/in/a-2"]

    @pytest.mark.parametrize("path", ["gs://b/in/none", "gs://b/none*", "gs://b/in"])
    def test_a_path_that_names_nothing_is_an_error(self, storage, path):
        with pytest.raises(FailedPrecondition, match="No input file matches"):
            expand_paths(storage, [path])
