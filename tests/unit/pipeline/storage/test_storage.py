from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from pipeline.errors import ConfigError, ObjectNotFound, StorageError, UnknownBucket
from pipeline.storage import S3Address, Storage, parse_buckets
from tests.bucket_contract import BucketContract
from tests.fakes.gcs import FakeGcs, running_gcs
from tests.fakes.s3 import FakeS3, running_s3, use_keys


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage({"graft": tmp_path / "bucket"})


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with running_gcs() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{server.host}")
        yield server


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    use_keys(monkeypatch)
    with running_s3() as server:
        yield server


@pytest.fixture(params=["directory", "google", "s3"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """One storage for each kind of bucket: what a test says of `both` is the contract of a bucket."""
    if request.param == "directory":
        return Storage({"graft": tmp_path / "bucket"})
    if request.param == "google":
        request.getfixturevalue("gcs")
        return Storage({}, cache=tmp_path / "cache")
    address = S3Address(bucket="company", prefix="graft", endpoint=request.getfixturevalue("s3").url(""))
    return Storage({"graft": address}, cache=tmp_path / "cache")


class TestAnyBucket(BucketContract):
    """Of the directory, and of the two kinds of stores."""


class TestGoogleBucket:
    def test_is_read_once_a_generation(self, gcs: FakeGcs, tmp_path: Path) -> None:
        storage = Storage({}, cache=tmp_path)
        storage.write_bytes("gs://graft/a", b"1")
        first, again = (storage.local_path("gs://graft/a") for _ in range(2))
        assert first == again
        assert gcs.requests["GET /download/storage/v1"] == 1
        storage.write_bytes("gs://graft/a", b"2")
        assert storage.local_path("gs://graft/a").read_bytes() == b"2"
        assert first.read_bytes() == b"1"  # who has opened it reads on

    def test_markers_of_folders_are_no_objects(self, gcs: FakeGcs, tmp_path: Path) -> None:
        """Google's console makes a zero-byte `folder/` for each folder that a person creates."""
        for key in ("m/", "m/a", "m/sub/", "m/sub/b"):
            gcs.put("graft", key, b"" if key.endswith("/") else b"1", generation=None)
        storage = Storage({"here": tmp_path / "here"}, cache=tmp_path / "cache")
        assert storage.list_uris("gs://graft/m/") == ["gs://graft/m/a", "gs://graft/m/sub/b"]
        storage.download_tree("gs://graft/m", tmp_path / "files")
        storage.copy_tree("gs://graft/m", "gs://here/m")
        for root in (tmp_path / "files", tmp_path / "here" / "m"):
            assert (root / "sub" / "b").read_bytes() == b"1"
        storage.delete_tree("gs://graft/m")
        assert storage.list_uris("gs://graft/") == []
        with pytest.raises(ObjectNotFound, match="nothing under gs://graft/m/"):
            storage.download_tree("gs://graft/m", tmp_path / "again")

    @pytest.mark.parametrize("keys", [("m/a", "m/a/b"), ("m/a/c", "m/a//c"), ("m/a", "m/./a", "m/b")])
    def test_objects_that_need_one_path_are_both_named(
        self, gcs: FakeGcs, tmp_path: Path, keys: tuple[str, ...]
    ) -> None:
        for key in keys:
            gcs.put("graft", key, key.encode(), generation=None)
        with pytest.raises(StorageError) as caught:
            Storage({}, cache=tmp_path / "cache").download_tree("gs://graft/m", tmp_path / "files")
        assert all(f"gs://graft/{key}" in str(caught.value) for key in keys[:2])
        assert not (tmp_path / "files").exists()

    @pytest.mark.parametrize("key", ["m/../../../../../planted", "m//absolute"])
    def test_a_key_of_any_text_leaves_no_directory_of_this_machine(
        self, gcs: FakeGcs, tmp_path: Path, key: str
    ) -> None:
        key = key.replace("/absolute", str(tmp_path / "planted"))
        gcs.put("graft", key, b"foreign", generation=None)
        storage = Storage({}, cache=tmp_path / "1" / "cache")
        (tmp_path / "1" / "target").mkdir(parents=True)
        with pytest.raises(ConfigError, match="leaves its bucket"):
            storage.download_tree("gs://graft/m", tmp_path / "1" / "target")
        if ".." in key:
            with pytest.raises(ConfigError, match="leaves its bucket"):
                storage.local_path(f"gs://graft/{key}")
        assert not list(tmp_path.rglob("planted*"))

    def test_a_refusal_names_object_and_cause(self, gcs: FakeGcs, tmp_path: Path) -> None:
        storage = Storage({}, cache=tmp_path)
        storage.write_bytes("gs://graft/a", b"1")
        gcs.refusal = 403
        calls: list[Callable[[str], object]] = [
            storage.read_bytes,
            storage.local_path,
            storage.exists,
            storage.delete,
            storage.list_uris,
            lambda uri: storage.write_bytes(uri, b"2"),
        ]
        for call in calls:
            with pytest.raises(StorageError, match=r"gs://graft/a failed: 403 .*may not do this"):
                call("gs://graft/a")

    def test_a_bucket_that_is_not_there_is_named_when_it_is_written_or_listed(
        self, gcs: FakeGcs, tmp_path: Path
    ) -> None:
        storage = Storage({}, cache=tmp_path)
        gcs.refusal = 404
        for call in (lambda uri: storage.write_bytes(uri, b"1"), storage.list_uris):
            with pytest.raises(UnknownBucket, match=r"gs://typo/a failed: 404 .*Make the bucket"):
                call("gs://typo/a")

    def test_a_large_object_is_sent_in_chunks(self, gcs: FakeGcs, tmp_path: Path) -> None:
        storage = Storage({}, cache=tmp_path)
        storage.write_large("gs://graft/a", lambda file: file.write(bytes(20 * 2**20)))
        assert gcs.requests["PUT /upload/storage/v1"] == 3

    def test_damaged_bytes_are_a_transient_error(self, gcs: FakeGcs, tmp_path: Path) -> None:
        storage = Storage({}, cache=tmp_path)
        storage.write_bytes("gs://graft/a", b"1")
        gcs.damages = True
        with pytest.raises(StorageError, match="Reading gs://graft/a failed") as caught:
            storage.read_bytes("gs://graft/a")
        assert caught.value.transient

    def test_without_credentials_the_mapping_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
        with pytest.raises(UnknownBucket, match="GRAFT_BUCKETS=elsewhere="):
            Storage({}, cache=tmp_path).read_bytes("gs://elsewhere/a")


class TestObjects:
    def test_read_back_whole_from_bucket_path_and_file_uri(self, storage: Storage, tmp_path: Path) -> None:
        for uri in ("gs://graft/a/b", str(tmp_path / "x"), (tmp_path / "with space").as_uri()):
            storage.write_bytes(uri, b"1")
            storage.write_bytes(uri, b"22")
            assert storage.read_bytes(uri) == b"22"
            assert storage.local_path(uri).read_bytes() == b"22"
        assert (tmp_path / "bucket" / "a" / "b").is_file()
        assert (tmp_path / "with space").is_file()

    def test_a_write_that_dies_leaves_the_old_bytes_and_no_litter(
        self, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage.write_bytes("gs://graft/a", b"old")

        def die(descriptor: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("os.fsync", die)
        with pytest.raises(KeyboardInterrupt):
            storage.write_bytes("gs://graft/a", b"new")
        assert storage.read_bytes("gs://graft/a") == b"old"
        assert [path.name for path in (tmp_path / "bucket").iterdir()] == ["a"]

    def test_a_part_of_a_killed_writer_is_not_listed(self, storage: Storage, tmp_path: Path) -> None:
        storage.write_bytes("gs://graft/d/a", b"1")
        (tmp_path / "bucket" / "d" / ".b.123.part").write_bytes(b"half")
        assert storage.list_uris("gs://graft/d/") == ["gs://graft/d/a"]

    def test_json_is_canonical(self, storage: Storage) -> None:
        storage.write_json("gs://graft/a", {"b": 1, "a": "ü"})
        assert storage.read_bytes("gs://graft/a").decode() == '{\n  "a": "ü",\n  "b": 1\n}\n'
        assert storage.read_json("gs://graft/a") == {"a": "ü", "b": 1}

    def test_a_key_may_not_leave_its_bucket(self, storage: Storage, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("x")
        with pytest.raises(ConfigError, match="leaves its bucket"):
            storage.read_bytes("gs://graft/../secret")
        with pytest.raises(ConfigError, match="leaves its bucket"):
            storage.write_bytes("gs://graft/a/../../secret", b"x")

    @pytest.mark.parametrize("name", ["x" * 256, "ü" * 128, "a\0b", "\ud800", "x/" * 2000 + "y"])
    def test_a_name_that_no_file_can_have_is_no_object(self, storage: Storage, name: str) -> None:
        uri = f"gs://graft/a/{name}"
        for call in (storage.read_bytes, storage.local_path, lambda uri: storage.write_bytes(uri, b"1")):
            with pytest.raises(ObjectNotFound, match="no file can have that name"):
                call(uri)
        assert not storage.exists(uri)
        assert storage.list_uris(f"{uri}/") == []
        storage.delete(uri)


class TestPrefixes:
    @pytest.fixture
    def filled(self, storage: Storage) -> Storage:
        for key in ("a/1", "a/b/2", "ab/3"):
            storage.write_bytes(f"gs://graft/{key}", key.encode())
        return storage

    @pytest.mark.parametrize(
        ("prefix", "keys"),
        [
            ("a/", ["a/1", "a/b/2"]),
            ("a", ["a/1", "a/b/2", "ab/3"]),
            ("", ["a/1", "a/b/2", "ab/3"]),
            ("z/", []),
        ],
    )
    def test_list_sorted_at_any_depth(self, filled: Storage, prefix: str, keys: list[str]) -> None:
        assert filled.list_uris(f"gs://graft/{prefix}") == [f"gs://graft/{key}" for key in keys]

    def test_list_a_path_too(self, storage: Storage, tmp_path: Path) -> None:
        storage.write_bytes(str(tmp_path / "d" / "x"), b"1")
        assert storage.list_uris(f"{tmp_path}/d/") == [f"{tmp_path}/d/x"]

    def test_a_linked_tree_outlives_and_does_not_follow_its_objects(
        self, filled: Storage, tmp_path: Path
    ) -> None:
        filled.download_tree("gs://graft/a", tmp_path / "linked", may_link=True)
        filled.write_bytes("gs://graft/a/1", b"another object")
        filled.delete_tree("gs://graft/a")
        assert (tmp_path / "linked" / "1").read_text() == "a/1"
        assert (tmp_path / "linked" / "b" / "2").read_text() == "a/b/2"

    def test_copy_upload_download_and_delete_a_tree(self, filled: Storage, tmp_path: Path) -> None:
        filled.copy_tree("gs://graft/a", "gs://graft/copy")
        filled.download_tree("gs://graft/copy/", tmp_path / "here")
        assert (tmp_path / "here" / "b" / "2").read_text() == "a/b/2"
        filled.upload_tree(tmp_path / "here", "gs://graft/again")
        assert filled.read_bytes("gs://graft/again/b/2") == b"a/b/2"
        filled.delete_tree("gs://graft/a")
        assert filled.list_uris("gs://graft/a") == [
            "gs://graft/ab/3",
            "gs://graft/again/1",
            "gs://graft/again/b/2",
        ]

    def test_a_pipe_is_no_object_and_nobody_waits_for_it(self, filled: Storage, tmp_path: Path) -> None:
        """Who opened one waited for ever, the engine's own end included."""
        os.mkfifo(tmp_path / "bucket" / "a" / "pipe")
        for ask in (filled.read_bytes, filled.local_path, lambda uri: filled.write_bytes(uri, b"1")):
            with pytest.raises(ObjectNotFound, match="'a/pipe' under .* is a pipe"):
                ask("gs://graft/a/pipe")
        assert not filled.exists("gs://graft/a/pipe")
        with pytest.raises(ObjectNotFound, match="is a pipe"):
            filled.download_tree("gs://graft/a", tmp_path / "here")

    def test_deleting_leaves_no_empty_folder(self, filled: Storage, tmp_path: Path) -> None:
        filled.delete_tree("gs://graft/a")
        assert sorted(path.name for path in (tmp_path / "bucket").iterdir()) == ["ab"]

    @pytest.mark.parametrize("action", ["copy", "download"])
    def test_an_empty_prefix_is_named(self, filled: Storage, tmp_path: Path, action: str) -> None:
        calls = {
            "copy": lambda: filled.copy_tree("gs://graft/none", "gs://graft/x"),
            "download": lambda: filled.download_tree("gs://graft/none", tmp_path / "x"),
        }
        with pytest.raises(ObjectNotFound, match="nothing under gs://graft/none/"):
            calls[action]()


class TestBuckets:
    def test_environment_maps_names_to_directories(self, tmp_path: Path) -> None:
        environ = {"GRAFT_HOME": str(tmp_path), "GRAFT_BUCKETS": f"demo={tmp_path}/d, more={tmp_path}/m"}
        storage = Storage.from_environment(environ)
        assert storage.directories == {
            "graft": tmp_path / "buckets" / "graft",
            "demo": tmp_path / "d",
            "more": tmp_path / "m",
        }

    def test_the_workspace_can_be_mapped_elsewhere(self, tmp_path: Path) -> None:
        storage = Storage.from_environment({"GRAFT_BUCKETS": f"graft={tmp_path}"})
        storage.write_bytes("gs://graft/a", b"1")
        assert (tmp_path / "a").is_file()

    @pytest.mark.parametrize("text", ["demo", "=/x", "demo=", "a=/x,b"])
    def test_a_wrong_pair_is_named(self, text: str) -> None:
        with pytest.raises(ConfigError, match="name=/directory pairs"):
            parse_buckets(text)

    @pytest.mark.parametrize("uri", ["http://host/x", "s3://bucket/x"])
    def test_other_schemes_are_refused(self, storage: Storage, uri: str) -> None:
        with pytest.raises(ConfigError, match=r"gs://, file:// and paths. Received: '"):
            storage.read_bytes(uri)

    def test_a_uri_without_a_bucket_is_refused(self, storage: Storage) -> None:
        with pytest.raises(ConfigError, match="gs://bucket/key"):
            storage.read_bytes("gs:///x")


def test_writing_below_a_file_says_what_failed(storage: Storage) -> None:
    storage.write_bytes("gs://graft/a", b"1")
    for write in (storage.write_bytes, storage.create_bytes):
        with pytest.raises(StorageError, match=r"Writing .* failed"):
            write("gs://graft/a/b", b"2")


def test_listing_a_whole_bucket_keeps_its_name_apart_from_the_keys(storage: Storage) -> None:
    storage.write_bytes("gs://graft/a/b", b"1")
    assert storage.list_uris("gs://graft") == ["gs://graft/a/b"]
    assert storage.list_uris("gs://graft/") == ["gs://graft/a/b"]


def test_parts_are_written_where_the_engine_says(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    environ = {"GRAFT_HOME": str(tmp_path), "GRAFT_PART_DIRECTORY": str(parts)}
    storage = Storage.from_environment(environ)

    def write(file: BinaryIO) -> None:
        assert len(list(parts.iterdir())) == 1
        assert not (tmp_path / "buckets" / "graft" / "folder").exists()
        file.write(b"large")

    assert storage.write_large("gs://graft/folder/large", write)
    assert storage.create_bytes("gs://graft/folder/small", b"small")
    assert not storage.create_bytes("gs://graft/folder/small", b"other")
    assert storage.read_bytes("gs://graft/folder/large") + storage.read_bytes("gs://graft/folder/small") == (
        b"largesmall"
    )
    assert list(parts.iterdir()) == []


class TestLinks:
    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        """A directory outside every bucket; `file` and `folder` in the bucket are links to it."""
        outside, bucket = tmp_path / "outside", tmp_path / "bucket"
        for directory in (outside, bucket):
            directory.mkdir()
        (outside / "secret").write_bytes(b"secret")
        (bucket / "file").symlink_to(outside / "secret")
        (bucket / "folder").symlink_to(outside)
        (bucket / "missing").symlink_to(outside / "new")
        return outside

    @pytest.fixture
    def linked(self, outside: Path, tmp_path: Path) -> Storage:
        return Storage({"graft": tmp_path / "bucket"})

    @pytest.mark.parametrize("uri", ["gs://graft/file", "gs://graft/folder/secret"])
    def test_what_a_link_leads_to_outside_cannot_be_read(self, linked: Storage, uri: str) -> None:
        for read in (linked.read_bytes, linked.local_path):
            with pytest.raises(ObjectNotFound, match="leads out of the bucket"):
                read(uri)
        assert not linked.exists(uri)
        assert linked.list_uris("gs://graft/") == []
        assert linked.list_uris("gs://graft/folder/") == []

    @pytest.mark.parametrize("uri", ["gs://graft/folder/new", "gs://graft/missing", "gs://graft/folder/a/b"])
    def test_nothing_is_written_through_it(self, linked: Storage, outside: Path, uri: str) -> None:
        for write in (linked.write_bytes, linked.create_bytes):
            with pytest.raises(ObjectNotFound, match="leads out of the bucket"):
                write(uri, b"1")
        assert [path.name for path in outside.iterdir()] == ["secret"]

    def test_deleting_removes_the_link_and_never_its_target(self, linked: Storage, outside: Path) -> None:
        for uri in ("gs://graft/folder/secret", "gs://graft/file"):
            linked.delete(uri)
        linked.delete_tree("gs://graft/folder")
        assert (outside / "secret").read_bytes() == b"secret"

    def test_a_link_within_the_bucket_and_a_bucket_that_is_a_link_work(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "bucket").symlink_to(tmp_path / "real")
        storage = Storage({"graft": tmp_path / "bucket"})
        storage.write_bytes("gs://graft/a", b"1")
        (tmp_path / "real" / "b").symlink_to("a")
        assert storage.read_bytes("gs://graft/b") == b"1"
        assert storage.list_uris("gs://graft/") == ["gs://graft/a", "gs://graft/b"]


@pytest.mark.parametrize("call", ["write_bytes", "delete"])
def test_a_file_system_that_becomes_read_only_is_a_transient_error(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    storage.write_bytes("gs://graft/a", b"1")

    def refuse(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pipeline.storage.buckets.os.open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)  # Linux refuses it also where there is no such file
    arguments = (b"2",) if call == "write_bytes" else ()
    with pytest.raises(StorageError, match="Read-only file system") as caught:
        getattr(storage, call)("gs://graft/a", *arguments)
    assert caught.value.transient
