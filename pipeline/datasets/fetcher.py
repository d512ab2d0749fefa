"""Getting one file over HTTP: not at all when it is unchanged, else streamed, capped and checked.

Proxies of the environment are not used. At most five redirects are followed, none from https to http.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from pipeline import __version__
from pipeline.errors import SourceNotFound, StorageError
from pipeline.types import JsonDict

MAX_REDIRECTS = 5
MAX_DOWNLOAD_BYTES = 16 * 2**30
READ_TIMEOUT_SECONDS = 60.0
DEADLINE_SECONDS = 3600.0
CHUNK_BYTES = 2**20
HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"graft/{__version__}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What a server, or a file system, says of a file's state.

    Args:
        etag: The ETag header.
        last_modified: The Last-Modified header, or the file's time.
        length: Size in bytes.
    """

    etag: str | None = None
    last_modified: str | None = None
    length: int | None = None

    def same_file_as(self, other: Validators) -> bool:
        """Say whether both prove the same bytes; without an ETag or a time nothing is proven."""
        if None not in (self.length, other.length) and self.length != other.length:
            return False
        if self.etag or other.etag:
            return self.etag == other.etag
        return self.last_modified is not None and self.last_modified == other.last_modified

    @property
    def prove_something(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.etag or self.last_modified)

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return asdict(self)


def public_url(url: str) -> str:
    """Return the address without user and password, as logs and manifests may show it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers.update(HEADERS)
    return session


def _send(session: requests.Session, method: str, url: str, headers: dict[str, str]) -> requests.Response:
    for _ in range(MAX_REDIRECTS + 1):
        response = session.request(
            method, url, headers=headers, stream=True, allow_redirects=False,
            timeout=(10.0, READ_TIMEOUT_SECONDS),
        )  # fmt: skip
        if not response.is_redirect:
            return response
        response.close()
        target = urljoin(url, response.headers["location"])
        old, new = urlsplit(url), urlsplit(target)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
            raise SourceNotFound(
                f"{public_url(url)} redirects to {public_url(target)}, which is not followed."
            )
        url = target
    raise SourceNotFound(f"{public_url(url)} redirects more than {MAX_REDIRECTS} times.")


@contextmanager
def _answered(method: str, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    try:
        with _session() as session, _send(session, method, url, headers) as response:
            yield response
    except requests.RequestException as error:
        raise StorageError(
            f"{url} did not answer as it should: {error}. Check the address and that its server is up.",
            url=url,
        ) from error


def _validators(response: requests.Response) -> Validators:
    length = response.headers.get("content-length", "")
    return Validators(
        etag=response.headers.get("etag"),
        last_modified=response.headers.get("last-modified"),
        length=int(length) if length.isdigit() else None,
    )


def _ask_head(url: str) -> Validators | None:
    """Return what HEAD says, None where the server refuses it or proves nothing by it."""
    try:
        with _answered("HEAD", url, {}) as response:
            validators = _validators(response)
            return validators if response.status_code == 200 and validators.prove_something else None
    except StorageError:
        return None  # some servers drop the connection on HEAD; GET decides


def _conditions(known: Validators) -> dict[str, str]:
    pairs = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
    return {name: value for name, value in pairs.items() if value}


def download_if_changed(url: str, file: BinaryIO, *, known: Validators | None) -> Validators | None:
    """Download a file unless it is the one known already.

    HEAD is asked first, so an unchanged file costs no GET; where HEAD is refused, a conditional GET decides.

    Args:
        url: `http://` or `https://` address.
        file: Empty; what is received is written to it.
        known: What the server said when the file was downloaded, None to download anyway.

    Returns:
        What the server says of the downloaded file; None if nothing was transferred.

    Raises:
        SourceNotFound: if the server says there is no such file, or refuses it.
        StorageError: if it cannot be reached, stops early or is overloaded; transient.
    """
    headers: dict[str, str] = {}
    if known is not None and known.prove_something:
        head = _ask_head(url)
        if head is None:
            headers = _conditions(known)
        elif head.same_file_as(known):
            return None
    with _answered("GET", url, headers) as response:
        if response.status_code == 304 and headers:
            return None
        name = public_url(url)
        _refuse_status(response, name)
        received = _copy_body(response, file, name)
        validators = _validators(response)
        if validators.length not in (None, received) and "content-encoding" not in response.headers:
            raise StorageError(f"{name} ended after {received} of {validators.length} bytes.", url=name)
        return validators


def _refuse_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status == 429 or status >= 500:
        raise StorageError(f"{url} answered {status} {response.reason}; it may work later.", url=url)
    if status != 200:
        raise SourceNotFound(
            f"{url} answered {status} {response.reason}; correct `dataset.source.uri`.",
            url=url,
            status=status,
        )


def _copy_body(response: requests.Response, file: BinaryIO, url: str) -> int:
    received, deadline = 0, time.monotonic() + DEADLINE_SECONDS
    for part in response.iter_content(CHUNK_BYTES):
        received += file.write(part)
        if received > MAX_DOWNLOAD_BYTES:
            raise SourceNotFound(f"{url} has more than {MAX_DOWNLOAD_BYTES} bytes, the limit.", url=url)
        if time.monotonic() > deadline:
            raise StorageError(f"{url} took longer than {DEADLINE_SECONDS:.0f} s.", url=url)
    return received
