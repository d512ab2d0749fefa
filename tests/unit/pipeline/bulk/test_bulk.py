"""Many pictures into one CSV: what gives pictures, what a row says, and what an interruption leaves."""

from __future__ import annotations

import os
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.bulk.answers import PicturePrediction
from pipeline.bulk.pictures import list_pictures
from pipeline.bulk.results import COLUMNS, ResultsFile
from pipeline.datasets.fetcher import FetchPolicy
from pipeline.errors import (
    ConfigError,
    FetchRefused,
    PipelineError,
    StorageError,
)
from tests.fakes.bulk import photos, read_rows
from tests.fakes.pictures import noise, png, serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path)


def names(*paths: Path, done: tuple[str, ...] = ()) -> list[str]:
    return [picture.name for picture in list_pictures(paths, done, FetchPolicy())]


def read_error(*paths: Path) -> str:
    [picture] = list_pictures(paths, (), FetchPolicy())
    with pytest.raises((OSError, PipelineError)) as caught:
        picture.read()
    return str(caught.value)


class TestPictures:
    def test_a_folder_gives_what_is_named_like_a_picture_in_order(self, folder: Path) -> None:
        found = [name.removeprefix(f"{folder}/") for name in names(folder)]
        assert found == ["a.jpg", "z.jpg", "sub/b.png", "sub/no_extension"]

    def test_a_picture_is_listed_once_and_not_if_it_is_done(self, folder: Path) -> None:
        assert names(folder / "a.jpg", folder / "a.jpg") == [str(folder / "a.jpg")]
        assert names(folder / "a.jpg", done=(str(folder / "a.jpg"),)) == []

    @pytest.mark.parametrize("kind", ["zip", "tar.gz"])
    def test_an_archive_is_read_without_being_unpacked(self, folder: Path, tmp_path: Path, kind: str) -> None:
        path = tmp_path / f"photos.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a.jpg", b"ant")
                archive.writestr("../up.jpg", b"evil")
                archive.writestr("notes.md", b"")
        else:
            with tarfile.open(path, "w:gz") as packed:
                packed.add(folder / "a.jpg", "a.jpg")
                packed.add(folder / "a.jpg", "../up.jpg")
        listed = {each.name: each for each in list_pictures([path], (), FetchPolicy())}
        assert list(listed) == [f"{path}/a.jpg", f"{path}/../up.jpg"]
        with pytest.raises(FetchRefused, match="bad_member_name"):
            listed[f"{path}/../up.jpg"].read()
        assert not (tmp_path / "up.jpg").exists()

    def test_a_list_names_files_beside_it(self, folder: Path) -> None:
        (folder / "list.csv").write_text("file,label\na.jpg,x\nabsent.jpg,x\n")
        first, second = list_pictures([folder / "list.csv"], (), FetchPolicy())
        assert (first.name, first.read(), second.name) == ("a.jpg", b"ant", "absent.jpg")

    def test_what_cannot_be_read_is_listed_with_its_reason(self, tmp_path: Path) -> None:
        (tmp_path / "x.zip").write_bytes(b"no zip")
        os.mkfifo(tmp_path / "pipe.jpg")
        assert "no zip, tar" in read_error(tmp_path / "x.zip")
        assert "No such file" in read_error(tmp_path / "absent.jpg")
        assert "no regular file" in read_error(tmp_path / "pipe.jpg")

    def test_a_name_that_is_not_utf8_can_be_written(self, tmp_path: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))
        path.write_bytes(b"ant")
        assert names(path) == [f"{tmp_path}/\\xff.jpg"]


class TestAddresses:
    def test_a_list_is_downloaded_under_the_rules_of_sources(self, tmp_path: Path) -> None:
        picture = png(noise(1))
        (tmp_path / "a.png").write_bytes(picture)
        with serving(tmp_path) as server:
            url, absent = server.url("a.png"), server.url("absent.png")
            (tmp_path / "list.txt").write_text(f"{url}\n{absent}\nhttp://127.0.0.1:9/b.png\n")
            with closing(list_pictures([tmp_path / "list.txt"], (), FetchPolicy().naming(url))) as listed:
                pictures = list(listed)
            assert pictures[0].read() == picture
            for each, reason in zip(pictures[1:], ("not_found", "port_not_allowed"), strict=True):
                with pytest.raises(FetchRefused) as caught:
                    each.read()
                assert caught.value.reason == reason

    def test_one_that_is_done_is_not_asked_again(self, tmp_path: Path) -> None:
        with serving(tmp_path) as server:
            (tmp_path / "list.txt").write_text(server.url("a.png") + "\n")
            assert names(tmp_path / "list.txt", done=(server.url("a.png"),)) == []
            assert not server.requests


class TestResultsFile:
    ROW = PicturePrediction(file='a "b",\nc.jpg', version="v_1", label="ant", score=0.5, novelty=None)

    def test_a_hostile_name_is_one_row(self, tmp_path: Path) -> None:
        with ResultsFile(path=tmp_path / "r.csv", classifier="tiles") as results:
            results.append([self.ROW])
        [row] = read_rows(tmp_path / "r.csv")
        assert (row["file"], row["novelty"]) == (self.ROW.file, "")

    @pytest.mark.parametrize("cut", [1, 5, 20, 40])
    def test_a_row_that_was_cut_short_is_dropped(self, tmp_path: Path, cut: int) -> None:
        path = tmp_path / "r.csv"
        with ResultsFile(path=path, classifier="tiles") as results:
            results.append([PicturePrediction(file="first.jpg", version="v_1", label="bee", score=1.0)])
            results.append([self.ROW])
        path.write_bytes(path.read_bytes()[:-cut])
        with ResultsFile(path=path, classifier="tiles") as results:
            assert results.done == {"first.jpg"} or cut > 30
            results.append([self.ROW])
        assert read_rows(path)[-1]["file"] == self.ROW.file

    def test_two_processes_do_not_write_one_file(self, tmp_path: Path) -> None:
        path = tmp_path / "r.csv"
        with (
            ResultsFile(path=path, classifier="tiles") as first,
            pytest.raises(ConfigError, match="being written by another"),
            ResultsFile(path=path, classifier="tiles"),
        ):
            pass
        with ResultsFile(path=path, classifier="tiles") as again:
            assert again.done == first.done == set()

    def test_a_full_disk_says_that_the_rows_stay(self, tmp_path: Path) -> None:
        with ResultsFile(path=tmp_path / "r.csv", classifier="tiles") as results:
            results.append([self.ROW])
            whole, results._file = results._file, open("/dev/full", "wb")
            with pytest.raises(StorageError, match="No space left.*run the same command again"):
                results.append([self.ROW])
            assert whole is not None
            whole.close()
        assert len(read_rows(tmp_path / "r.csv")) == 1

    def test_the_columns_do_not_change(self) -> None:
        assert COLUMNS == ("file", "classifier", "version", "label", "score", "novelty", "error")
