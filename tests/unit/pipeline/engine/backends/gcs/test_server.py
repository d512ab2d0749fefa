"""The server of a job's buckets, asked by Google's own storage client."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core.exceptions import (
    BadRequest,
    Forbidden,
    MethodNotImplemented,
    NotFound,
    NotModified,
    PreconditionFailed,
)
from google.cloud import storage

from pipeline.engine.backends.gcs.objects import BucketAccess
from pipeline.engine.backends.gcs.server import BucketServer

CHUNK = 256 * 1024  # the smallest that the client sends in pieces


@pytest.fixture
def access(tmp_path: Path) -> BucketAccess:
    for path in ("graft/jobs/j", "graft/data", "other/data", "other/private"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "graft" / "data" / "in.csv").write_text("a,b\n1,2\n")
    (tmp_path / "other" / "data" / "in.txt").write_text("in")
    (tmp_path / "other" / "private" / "x.txt").write_text("private")
    return BucketAccess(
        directories={"graft": tmp_path / "graft", "other": tmp_path / "other"},
        read=(tmp_path / "graft", tmp_path / "other" / "data"),
        write=(tmp_path / "graft" / "jobs" / "j",),
        parts=tmp_path / "graft" / "jobs" / "j",
    )


@pytest.fixture
def server(access: BucketAccess, monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    server = BucketServer(socket.create_server(("127.0.0.1", 0)), access, "secret")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url.rstrip("/"))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(server: BucketServer) -> Iterator[Any]:
    client = storage.Client()  # as trainers make it
    yield client
    client.close()


@pytest.fixture
def bucket(client: Any) -> Any:
    return client.bucket("graft")


class TestObjects:
    def test_an_upload_is_a_file_of_the_bucket(self, bucket: Any, tmp_path: Path) -> None:
        blob = bucket.blob("jobs/j/model/a b+ü.txt")
        blob.upload_from_string("hello")
        assert (tmp_path / "graft/jobs/j/model/a b+ü.txt").read_text() == "hello"
        assert (blob.size, blob.content_type) == (5, "text/plain")
        assert bucket.blob(blob.name).download_as_bytes() == b"hello"
        assert [path.name for path in (tmp_path / "graft/jobs/j").iterdir()] == ["model"]  # no part is left

    def test_a_large_file_comes_in_pieces_and_goes_back_in_pieces(self, bucket: Any, tmp_path: Path) -> None:
        data = os.urandom(3 * CHUNK + 5)
        source = tmp_path / "model.bin"
        source.write_bytes(data)
        bucket.blob("jobs/j/model.bin", chunk_size=CHUNK).upload_from_filename(str(source))
        bucket.blob("jobs/j/stream.bin", chunk_size=CHUNK).upload_from_file(io.BytesIO(data))
        with bucket.blob("jobs/j/written.bin").open("wb", chunk_size=CHUNK) as file:
            file.write(data)
        for name in ("model.bin", "stream.bin", "written.bin"):
            assert bucket.blob(f"jobs/j/{name}", chunk_size=CHUNK).download_as_bytes() == data
        assert bucket.blob("jobs/j/model.bin").download_as_bytes(start=3, end=9) == data[3:10]
        with bucket.blob("jobs/j/model.bin").open("rb") as file:
            assert file.read() == data

    def test_an_empty_object_and_a_folder(self, bucket: Any, tmp_path: Path) -> None:
        bucket.blob("jobs/j/empty").upload_from_string(b"")
        bucket.blob("jobs/j/folder/").upload_from_string("")
        assert (tmp_path / "graft/jobs/j/empty").read_bytes() == b""
        assert (tmp_path / "graft/jobs/j/folder").is_dir()

    def test_what_a_trainer_does_to_buckets_and_uris(self, client: Any, tmp_path: Path) -> None:
        assert client.get_bucket("graft").name == "graft"
        assert client.lookup_bucket("nowhere") is None
        assert sorted(bucket.name for bucket in client.list_buckets()) == ["graft", "other"]
        blob = storage.Blob.from_uri("gs://graft/jobs/j/x.txt", client=client)
        assert not blob.exists()
        blob.upload_from_string("x")
        assert blob.exists()
        client.download_blob_to_file("gs://graft/data/in.csv", out := io.BytesIO())
        assert out.getvalue() == b"a,b\n1,2\n"

    def test_copies_renames_and_deletions(self, bucket: Any, tmp_path: Path) -> None:
        blob = bucket.blob("data/in.csv")
        copied = bucket.copy_blob(blob, bucket, "jobs/j/copy.csv")
        renamed = bucket.rename_blob(copied, "jobs/j/renamed.csv")
        assert renamed.download_as_text() == "a,b\n1,2\n"
        assert not (tmp_path / "graft/jobs/j/copy.csv").exists()
        renamed.delete()
        with pytest.raises(NotFound, match="No such object: graft/jobs/j/renamed.csv"):
            renamed.delete()
        with pytest.raises(NotFound):
            renamed.reload()

    def test_lists_are_in_order_with_folders_and_pages(self, client: Any, bucket: Any) -> None:
        for name in ("b/2", "a", "b/1", "c/x/1", "d"):
            bucket.blob(f"jobs/j/{name}").upload_from_string(name)
        names = [blob.name for blob in client.list_blobs("graft", prefix="jobs/j/", page_size=2)]
        assert names == [f"jobs/j/{name}" for name in ("a", "b/1", "b/2", "c/x/1", "d")]
        found = client.list_blobs("graft", prefix="jobs/j/", delimiter="/", page_size=1)
        assert [blob.name for blob in found] == ["jobs/j/a", "jobs/j/d"]
        assert found.prefixes == {"jobs/j/b/", "jobs/j/c/"}
        between = client.list_blobs("graft", start_offset="jobs/j/b/2", end_offset="jobs/j/d")
        assert [blob.name for blob in between] == ["jobs/j/b/2", "jobs/j/c/x/1"]
        assert len(list(client.list_blobs("graft", max_results=2))) == 2

    def test_damaged_bytes_are_refused(self, bucket: Any, tmp_path: Path) -> None:
        blob = bucket.blob("jobs/j/x")
        blob.crc32c = "AAAAAA=="
        with pytest.raises(BadRequest, match="does not match the calculated one"):
            blob.upload_from_string("hello", checksum=None)
        assert not (tmp_path / "graft/jobs/j/x").exists()

    def test_an_object_below_an_object_is_refused(self, bucket: Any) -> None:
        bucket.blob("jobs/j/x").upload_from_string("x")
        with pytest.raises(BadRequest, match="none can lie below it"):
            bucket.blob("jobs/j/x/y").upload_from_string("y")
        with pytest.raises(BadRequest, match="is a folder here"):
            bucket.blob("jobs/j").upload_from_string("y")

    def test_what_a_directory_cannot_keep_is_refused_by_name(self, client: Any, bucket: Any) -> None:
        blob = bucket.blob("data/in.csv")
        blob.metadata = {"a": "b"}
        with pytest.raises(MethodNotImplemented, match="metadata, access lists"):
            blob.patch()
        with pytest.raises(MethodNotImplemented, match="is not served"):
            list(client.list_blobs("graft", match_glob="**.csv"))


def test_gcsfs_continues_uploads_with_post(server: BucketServer, tmp_path: Path) -> None:
    url = f"{server.url}upload/storage/v1/b/graft/o?uploadType=resumable"
    begun = requests.post(url, json={"name": "jobs/j/x", "metadata": {"a": "b"}}, timeout=10)
    place = begun.headers["Location"]
    first = requests.post(place, b"hel", headers={"Content-Range": "bytes 0-2/*"}, timeout=10)
    assert (first.status_code, first.headers["Range"]) == (308, "bytes=0-2")
    again = requests.put(place, headers={"Content-Range": "bytes */*"}, timeout=10)
    assert (again.status_code, again.headers["Range"]) == (308, "bytes=0-2")
    last = requests.post(place, b"lo", headers={"Content-Range": "bytes 3-4/5"}, timeout=10)
    assert (last.status_code, last.json()["size"]) == (200, "5")
    assert (tmp_path / "graft/jobs/j/x").read_text() == "hello"
    assert requests.put(place, b"x", timeout=10).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"{}"])
def test_a_malformed_upload_is_a_400(server: BucketServer, body: bytes) -> None:
    url = f"{server.url}upload/storage/v1/b/graft/o?uploadType="
    assert requests.post(f"{url}resumable", body, timeout=10).status_code == 400
    kind = {"Content-Type": "multipart/related; boundary=b"}
    for text in (body, b"--b\r\n\r\n" + body + b"\r\n--b\r\n\r\nx\r\n--b--"):
        assert requests.post(f"{url}multipart", text, headers=kind, timeout=10).status_code == 400
    chunked = requests.post(f"{url}media&name=x", iter([b"x"]), timeout=10)
    assert chunked.status_code == 411


class TestPreconditions:
    def test_a_generation_changes_with_every_write(self, bucket: Any) -> None:
        blob = bucket.blob("jobs/j/x")
        generations = []
        for number in range(20):
            blob.upload_from_string(str(number))
            generations.append(blob.generation)
        assert sorted(set(generations)) == generations
        blob.reload()
        assert blob.generation == generations[-1]

    def test_of_many_racers_one_creates(self, client: Any, bucket: Any) -> None:
        def create(number: int) -> bool:
            try:
                bucket.blob("jobs/j/lock").upload_from_string(str(number), if_generation_match=0)
            except PreconditionFailed:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(create, range(16))) == 1

    def test_no_update_is_lost(self, client: Any, bucket: Any) -> None:
        bucket.blob("jobs/j/count").upload_from_string("0")

        def add() -> None:
            while True:
                blob = bucket.get_blob("jobs/j/count")
                try:
                    count = int(blob.download_as_text(if_generation_match=blob.generation))
                    blob.upload_from_string(str(count + 1), if_generation_match=blob.generation)
                except (PreconditionFailed, NotFound):
                    continue
                return

        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(add) for _ in range(12)]:
                future.result()
        assert bucket.blob("jobs/j/count").download_as_text() == "12"

    def test_conditions_of_reads_copies_and_deletions(self, bucket: Any) -> None:
        blob = bucket.blob("jobs/j/x")
        blob.upload_from_string("1")
        old = blob.generation
        blob.upload_from_string("2", if_generation_match=old)
        with pytest.raises(PreconditionFailed):
            blob.upload_from_string("3", if_generation_match=old)
        with pytest.raises(PreconditionFailed):
            blob.download_as_bytes(if_generation_match=old)
        with pytest.raises(NotModified):
            blob.reload(if_generation_not_match=blob.generation)
        with pytest.raises(PreconditionFailed):
            bucket.copy_blob(blob, bucket, "jobs/j/y", if_source_generation_match=old)
        with pytest.raises(NotFound):
            bucket.blob("jobs/j/x", generation=old).download_as_bytes()
        with pytest.raises(PreconditionFailed):
            blob.delete(if_generation_match=old)
        assert blob.download_as_text() == "2"
        blob.delete(if_generation_match=blob.generation)

    def test_a_file_that_the_program_writes_itself_has_a_generation(
        self, bucket: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "graft/jobs/j/own").write_text("1")
        blob = bucket.get_blob("jobs/j/own")
        blob.upload_from_string("2", if_generation_match=blob.generation)
        assert (tmp_path / "graft/jobs/j/own").read_text() == "2"


class TestRights:
    def test_only_the_job_directory_is_written(self, client: Any, bucket: Any) -> None:
        with pytest.raises(Forbidden, match="may write gs://graft/jobs/j"):
            bucket.blob("data/in.csv").upload_from_string("x")
        with pytest.raises(Forbidden):
            bucket.blob("data/in.csv").delete()
        with pytest.raises(Forbidden):
            bucket.copy_blob(bucket.blob("data/in.csv"), client.bucket("other"), "data/x")
        with pytest.raises(BadRequest, match=r"expected no '\.\.'"):
            bucket.blob("jobs/j/../../../x").upload_from_string("x")
        assert bucket.blob("data/in.csv").download_as_bytes() == b"a,b\n1,2\n"

    def test_only_what_the_job_may_read_is_read_and_listed(self, client: Any) -> None:
        other = client.bucket("other")
        assert other.blob("data/in.txt").download_as_text() == "in"
        with pytest.raises(Forbidden, match="may not read gs://other/private/x.txt"):
            other.blob("private/x.txt").download_as_text()
        assert [blob.name for blob in client.list_blobs("other")] == ["data/in.txt"]

    def test_a_bucket_that_the_job_does_not_name_is_not_there(self, client: Any) -> None:
        with pytest.raises(NotFound, match="not one of this job's: graft, other"):
            client.bucket("private").blob("x").upload_from_string("x")

    def test_a_link_out_of_the_bucket_leads_nowhere(self, bucket: Any, tmp_path: Path) -> None:
        (tmp_path / "graft/jobs/j/link").symlink_to(tmp_path / "other/private/x.txt")
        with pytest.raises(NotFound, match="leads out of the bucket"):
            bucket.blob("jobs/j/link").download_as_bytes()

    @pytest.mark.parametrize("path", ["storage/v1/b/graft", "x/storage/v1/b/graft", ""])
    def test_who_does_not_know_the_address_gets_nothing(self, server: BucketServer, path: str) -> None:
        base = server.url.removesuffix("secret/")
        assert requests.get(f"{base}{path}", timeout=10).status_code == 404
        assert requests.get(f"{base}secret/storage/v1/b/graft", timeout=10).status_code == 200


def test_the_access_goes_through_the_plan_of_the_job(access: BucketAccess) -> None:
    assert BucketAccess.from_dict(access.to_dict()) == access  # type: ignore[arg-type]
