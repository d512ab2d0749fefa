from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.datasets.fetcher import Validators, download_if_changed
from pipeline.errors import SourceNotFound, StorageError
from tests.fakes.pictures import PictureServer, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PictureServer]:
    (tmp_path / "a.npz").write_bytes(b"some bytes")
    with serving(tmp_path) as running:
        yield running


def download(url: str, known: Validators | None = None) -> tuple[bytes, Validators | None]:
    file = io.BytesIO()
    return (
        validators := download_if_changed(url, file, validators=known)
    ) and file.getvalue() or b"", validators


class TestUnchangedFile:
    def test_costs_one_head_and_no_get(self, server: PictureServer) -> None:
        data, known = download(server.url("a.npz"))
        assert data == b"some bytes"
        assert download(server.url("a.npz"), known) == (b"", None)
        assert server.requests == {"GET": 1, "bodies": 1, "HEAD": 1}

    def test_where_head_is_refused_a_conditional_get_transfers_nothing(self, server: PictureServer) -> None:
        _, known = download(server.url("a.npz"))
        server.refuses_head = True
        assert download(server.url("a.npz"), known) == (b"", None)
        assert server.requests == {"GET": 2, "bodies": 1, "HEAD": 1}

    def test_same_etag_outweighs_a_new_time(self, server: PictureServer, tmp_path: Path) -> None:
        server.etag = '"one"'
        _, known = download(server.url("a.npz"))
        (tmp_path / "a.npz").touch()
        assert download(server.url("a.npz"), known) == (b"", None)


class TestChangedFile:
    def test_another_length_within_the_same_second_is_seen(
        self, server: PictureServer, tmp_path: Path
    ) -> None:
        _, known = download(server.url("a.npz"))
        (tmp_path / "a.npz").write_bytes(b"other bytes, more of them")
        assert download(server.url("a.npz"), known)[0] == b"other bytes, more of them"

    def test_another_etag_is_seen(self, server: PictureServer) -> None:
        server.etag = '"one"'
        _, known = download(server.url("a.npz"))
        server.etag = '"two"'
        assert download(server.url("a.npz"), known)[0] == b"some bytes"

    def test_a_server_that_proves_nothing_is_asked_for_the_file(self, server: PictureServer) -> None:
        assert download(server.url("a.npz"), Validators(length=10))[0] == b"some bytes"
        assert server.requests["HEAD"] == 0


class TestRefusals:
    def test_missing_file_names_address_and_setting(self, server: PictureServer) -> None:
        with pytest.raises(SourceNotFound, match=r"/none\.npz answered 404 .*`dataset\.source\.uri`"):
            download(server.url("none.npz"))

    def test_overloaded_server_is_transient(self, server: PictureServer) -> None:
        server.status = 503
        with pytest.raises(StorageError, match="answered 503") as caught:
            download(server.url("a.npz"))
        assert caught.value.transient

    def test_a_body_cut_short_is_transient(self, server: PictureServer) -> None:
        server.cut_at = 4
        with pytest.raises(StorageError) as caught:
            download(server.url("a.npz"))
        assert caught.value.transient

    def test_nobody_listening_is_transient_and_names_the_address(self, tmp_path: Path) -> None:
        with serving(tmp_path) as server:
            url = server.url("a.npz")
        with pytest.raises(StorageError, match="127.0.0.1") as caught:
            download(url)
        assert caught.value.transient

    def test_redirects_end_after_five(self, server: PictureServer) -> None:
        server.redirect_to = server.url("a.npz")
        with pytest.raises(SourceNotFound, match="more than 5 times"):
            download(server.url("a.npz"))
        assert server.requests["GET"] == 6

    def test_redirect_to_a_file_is_not_followed(self, server: PictureServer) -> None:
        server.redirect_to = "file:///etc/passwd"
        with pytest.raises(SourceNotFound, match="file:///etc/passwd, which is not followed"):
            download(server.url("a.npz"))

    def test_more_than_the_limit_is_not_kept(
        self, server: PictureServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.datasets.fetcher.conditional_get.MAX_DOWNLOAD_BYTES", 5)
        with pytest.raises(SourceNotFound, match="more than 5 bytes"):
            download(server.url("a.npz"))

    def test_proxies_of_the_environment_are_not_used(
        self, server: PictureServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert download(server.url("a.npz"))[0] == b"some bytes"
