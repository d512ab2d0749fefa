from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, ObjectNotFound, StorageError, StorageRefused, UnknownBucket
from pipeline.storage import S3Address, Storage, parse_buckets
from pipeline.storage.s3_bucket import PART_BYTES
from tests.fakes.s3 import FakeS3, Stored, running_s3, use_keys

FULL = "s3://company-bucket/some/prefix?endpoint=https://minio.example:9000&region=eu-central-1"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    use_keys(monkeypatch)
    with running_s3() as server:
        yield server


@pytest.fixture
def storage(server: FakeS3, tmp_path: Path) -> Storage:
    return Storage({"graft": S3Address(bucket="company", endpoint=server.url(""))}, cache=tmp_path / "cache")


class TestAddress:
    def test_reads_what_it_writes(self) -> None:
        address = S3Address(
            bucket="company-bucket",
            prefix="some/prefix",
            endpoint="https://minio.example:9000",
            region="eu-central-1",
        )
        assert S3Address.parse(FULL) == address
        assert str(address) == FULL
        assert str(S3Address.parse("s3://company-bucket/")) == "s3://company-bucket"

    def test_stands_where_a_directory_does(self, tmp_path: Path) -> None:
        buckets = parse_buckets(f"graft={FULL}, pictures={tmp_path}")
        assert buckets == {"graft": S3Address.parse(FULL), "pictures": tmp_path}
        assert Storage(buckets).directories == {"pictures": tmp_path}

    @pytest.mark.parametrize(
        "text",
        [
            "s3://AKIA:topsecret@company-bucket",
            "s3://company-bucket?endpoint=https://user:topsecret@minio.example",
            "s3://company-bucket?secret_access_key=topsecret",
        ],
    )
    def test_holds_no_password_and_says_none(self, text: str) -> None:
        with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY") as caught:
            parse_buckets(f"graft={text}")
        assert "topsecret" not in str(caught.value)
        with pytest.raises(ConfigError) as caught:
            parse_buckets(text)
        assert "topsecret" not in str(caught.value) or "@" not in text

    @pytest.mark.parametrize(
        "text", ["s3://", "s3://B", "s3:///key", "s3://bucket?endpoint=minio:9000", "s3://bucket?endpoint="]
    )
    def test_a_wrong_one_is_named(self, text: str) -> None:
        with pytest.raises(ConfigError, match="wants an address like s3://") as caught:
            parse_buckets(f"graft={text}")
        assert repr(text) in str(caught.value)

    def test_the_scheme_is_a_setting_and_no_uri_of_objects(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match="Map a bucket of S3 to a name: GRAFT_BUCKETS=NAME=s3://company"
        ):
            Storage({}, cache=tmp_path).read_bytes("s3://company/a")


class TestBucket:
    def test_keeps_to_its_prefix(self, server: FakeS3, tmp_path: Path) -> None:
        address = S3Address(bucket="company", prefix="team/graft", endpoint=server.url(""))
        storage = Storage({"graft": address}, cache=tmp_path)
        server.put("company", "team/graft2/other", Stored(b"1"))
        storage.write_bytes("gs://graft/a//b", b"1")
        assert storage.list_uris("gs://graft/") == ["gs://graft/a//b"]
        assert ("company", "team/graft/a//b") in server.objects
        storage.delete_tree("gs://graft/")
        assert list(server.objects) == [("company", "team/graft2/other")]

    def test_the_markers_of_folders_that_consoles_make_are_no_objects(
        self, storage: Storage, server: FakeS3
    ) -> None:
        for key in ("m/", "m/sub/", "m/sub/a"):
            server.put("company", key, Stored(b""))
        assert storage.list_uris("gs://graft/m/") == ["gs://graft/m/sub/a"]

    def test_a_large_object_is_sent_and_fetched_in_parts(self, storage: Storage, server: FakeS3) -> None:
        data = os.urandom(2 * PART_BYTES + 1)
        storage.write_large("gs://graft/a", lambda file: file.write(data))
        assert server.requests["PUT object"] == 3
        assert storage.local_path("gs://graft/a").read_bytes() == data
        assert storage.local_path("gs://graft/a").read_bytes() == data
        assert server.requests["GET object"] == 3

    def test_an_upload_that_fails_leaves_no_parts(
        self, storage: Storage, server: FakeS3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> bytes:
            raise OSError("the disk has gone")

        monkeypatch.setattr("pipeline.storage.s3_bucket.os.pread", refuse)
        with pytest.raises(StorageError, match="the disk has gone"):
            storage.write_large("gs://graft/a", lambda file: file.write(bytes(2 * PART_BYTES + 1)))
        assert server.uploads == {}

    def test_an_object_that_is_replaced_while_it_is_fetched_is_not_mixed(
        self, storage: Storage, server: FakeS3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage.write_bytes("gs://graft/a", b"1")
        monkeypatch.setattr(Stored, "etag", property(lambda _: f'"{next(server.numbers)}"'))
        with pytest.raises(StorageError, match="was replaced while it was read") as caught:
            storage.local_path("gs://graft/a")
        assert caught.value.transient

    @pytest.mark.parametrize("large", [False, True])
    def test_who_creates_and_gets_no_answer_has_won_all_the_same(
        self, storage: Storage, server: FakeS3, large: bool
    ) -> None:
        """The client asks again, and hears that the object is there: its own."""
        server.lost_answers = 1
        if large:
            assert storage.write_large("gs://graft/a", lambda file: file.write(b"1"), if_absent=True)
        else:
            assert storage.create_bytes("gs://graft/a", b"1")
        server.lost_answers = 1
        assert not storage.create_bytes("gs://graft/a", b"2")
        assert storage.read_bytes("gs://graft/a") == b"1"

    def test_many_objects_are_looked_for_with_few_requests(self, storage: Storage, server: FakeS3) -> None:
        uris = [f"gs://graft/a/{number}" for number in range(12)]
        for uri in uris[1:]:
            storage.write_bytes(uri, b"1")
        assert storage.existing(uris) == set(uris[1:])
        assert server.requests["HEAD object"] == 0
        assert server.requests["GET list"] == 4

    def test_a_fork_makes_a_client_of_its_own(self, storage: Storage) -> None:
        storage.write_bytes("gs://graft/a", b"1")
        if not (child := os.fork()):
            fresh = Storage(storage.addresses, cache=Path(os.devnull))
            os._exit(0 if fresh.read_bytes("gs://graft/a") == b"1" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "code", "kind", "remedy"),
        [
            (404, "NoSuchBucket", UnknownBucket, r"Make the bucket, or correct its name in GRAFT_BUCKETS"),
            (403, "InvalidAccessKeyId", StorageRefused, r"Correct AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", StorageRefused, r"Correct AWS_ACCESS_KEY_ID"),
            (403, "AccessDenied", StorageRefused, r"The key needs s3:ListBucket"),
            (403, "RequestTimeTooSkewed", StorageRefused, r"The clock of this machine is wrong"),
        ],
    )
    def test_each_is_named_with_what_to_do(
        self, storage: Storage, server: FakeS3, status: int, code: str, kind: type[StorageError], remedy: str
    ) -> None:
        server.refusal = status, code
        calls: list[Callable[[str], object]] = [
            storage.read_bytes,
            storage.list_uris,
            lambda uri: storage.write_bytes(uri, b"2"),
            lambda uri: storage.create_bytes(uri, b"2"),
            *(() if status == 404 else (storage.exists, storage.local_path)),
        ]
        for call in calls:
            with pytest.raises(kind, match=rf"s3://company/.* failed: .*{code}.*{remedy}") as caught:
                call("gs://graft/a")
            assert not caught.value.transient
            assert "secret" not in str(caught.value)

    def test_a_store_that_is_busy_may_be_asked_again(
        self, storage: Storage, server: FakeS3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.storage.s3_bucket.TRIES", 1)
        server.refusal = 503, "SlowDown"
        with pytest.raises(StorageError, match="SlowDown") as caught:
            Storage(storage.addresses).read_bytes("gs://graft/a")
        assert caught.value.transient

    @pytest.mark.parametrize("is_down", [False, True])
    def test_a_store_that_is_away_is_waited_for_half_a_minute_at_most(
        self, storage: Storage, server: FakeS3, monkeypatch: pytest.MonkeyPatch, is_down: bool
    ) -> None:
        pauses: list[float] = []
        real, own = time.sleep, threading.get_ident()

        def sleep(seconds: float) -> None:  # threads of other tests sleep as they would
            pauses.append(seconds) if threading.get_ident() == own else real(seconds)

        monkeypatch.setattr("time.sleep", sleep)
        monkeypatch.setattr("random.random", lambda: 1.0)
        server.refusal = 503, "ServiceUnavailable"
        down = S3Address(bucket="company", endpoint="http://127.0.0.1:9")
        with pytest.raises(StorageError):
            Storage({"graft": down} if is_down else storage.addresses).read_bytes("gs://graft/a")
        assert pauses == [1, 2, 4, 8, 16]

    def test_an_endpoint_that_is_down_is_named(
        self, server: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.storage.s3_bucket.TRIES", 1)
        address = S3Address(bucket="company", endpoint="http://127.0.0.1:9")
        with pytest.raises(StorageError, match=r"http://127.0.0.1:9 gave no answer: check the en") as caught:
            Storage({"graft": address}, cache=tmp_path).read_bytes("gs://graft/a")
        assert caught.value.transient

    @pytest.mark.parametrize(
        ("name", "value"), [("AWS_SECRET_ACCESS_KEY", ""), ("AWS_PROFILE", "nobody")], ids=["half", "profile"]
    )
    def test_no_credentials_are_named(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID" if name == "AWS_SECRET_ACCESS_KEY" else "AWS_REGION", False)
        monkeypatch.setenv(name, value)
        with pytest.raises(StorageRefused, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_P"):
            storage.read_bytes("gs://graft/a")

    def test_a_missing_object_is_named_in_the_store(self, storage: Storage) -> None:
        for call in (storage.read_bytes, storage.local_path):
            with pytest.raises(ObjectNotFound, match="There is no object s3://company/a"):
                call("gs://graft/a")

    def test_without_the_package_the_extra_is_named(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "botocore.config", None)
        with pytest.raises(ConfigError, match=r"pip install 'graft\[s3\]'"):
            storage.read_bytes("gs://graft/a")


def test_the_client_is_imported_only_where_a_bucket_is_in_such_a_store() -> None:
    program = (
        "import sys; from pipeline.storage import Storage, parse_buckets; "
        f"Storage(parse_buckets('graft={FULL}')); print('botocore' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == "False"
