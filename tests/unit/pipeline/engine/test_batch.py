from __future__ import annotations

import pytest

from pipeline.engine import batch
from pipeline.engine.batch import expand_paths, frames_of
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
