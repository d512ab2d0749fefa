from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, ObjectNotFound, StorageError
from pipeline.storage import Storage, parse_buckets


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage({"graft": tmp_path / "bucket"})


class TestObjects:
    def test_read_back_whole_from_bucket_path_and_file_uri(self, storage: Storage, tmp_path: Path) -> None:
        for uri in ("gs://graft/a/b", str(tmp_path / "x"), (tmp_path / "with space").as_uri()):
            storage.write_bytes(uri, b"1")
            storage.write_bytes(uri, b"22")
            assert storage.read_bytes(uri) == b"22"
            assert storage.local_path(uri).read_bytes() == b"22"
        assert (tmp_path / "bucket" / "a" / "b").is_file()
        assert (tmp_path / "with space").is_file()

    def test_missing_one_is_a_final_error(self, storage: Storage) -> None:
        for call in (storage.read_bytes, storage.read_json, storage.local_path):
            with pytest.raises(ObjectNotFound) as caught:
                call("gs://graft/none")
            assert not caught.value.transient
        assert not storage.exists("gs://graft/none")

    def test_create_writes_once_and_keeps_the_first(self, storage: Storage) -> None:
        assert storage.create_bytes("gs://graft/a", b"first")
        assert not storage.create_bytes("gs://graft/a", b"second")
        assert storage.read_bytes("gs://graft/a") == b"first"

    def test_of_many_racers_one_creates(self, storage: Storage) -> None:
        gate, won = threading.Barrier(8), []

        def race(number: int) -> None:
            gate.wait(5)
            won.append(storage.create_bytes("gs://graft/a/b/c", str(number).encode()))

        racers = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(5)
        assert sorted(won) == [False] * 7 + [True]

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
