"""Getting one large file, such as an archive or a list, that the user named."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import BinaryIO

import requests

from pipeline.datasets.fetcher.client import HttpClient, public_url, refuse_status
from pipeline.datasets.fetcher.limited_reader import read_body
from pipeline.datasets.fetcher.policy import FetchPolicy
from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.datasets.fetcher.share_links import find_direct_link
from pipeline.datasets.fetcher.validators import Validators
from pipeline.errors import FetchRefused, SourceNotFound, StorageError

MAX_DOWNLOAD_BYTES = 16 * 2**30
DEADLINE_SECONDS = 3600.0
RESUMES = 5


def download_if_changed(
    url: str, file: BinaryIO, *, validators: Validators | None, policy: FetchPolicy | None = None
) -> Validators | None:
    """Download a file unless it has not changed.

    HEAD is asked first, so an unchanged file costs no GET; where HEAD is refused, a conditional GET decides.
    A body that breaks off is asked for from there on, if the server can prove that it is the same file.

    Args:
        url: `http(s)` address that the user wrote, or a link for sharing. It may be private, what it
            redirects to may not.
        file: Empty; what is received is written to it.
        validators: Those of the file when it was last downloaded; None to download it in any case.
        policy: Limits and opened places; those of the environment if None.

    Returns:
        What the server says of the downloaded file; None if nothing was transferred.

    Raises:
        SourceNotFound: if the server says there is no such file, or it is refused.
        StorageError: if it cannot be reached, stops early or is overloaded; transient.
    """
    url = find_direct_link(url)
    policy = (policy or FetchPolicy.from_environment()).naming(url)
    config = policy.config.model_copy(update={"deadline_seconds": DEADLINE_SECONDS})
    try:
        with HttpClient(replace(policy, config=config)) as client:
            return _download(client, url, file, validators)
    except FetchRefused as error:
        name, message = public_url(url), error.message
        if name not in message:
            message = f"{name} {message}"
        if FetchReason(error.reason).is_transient:
            raise StorageError(
                f"{message} Check that its server is up; it may work later.", url=name
            ) from error
        raise SourceNotFound(
            f"{message.rstrip('.')}; correct `dataset.source.uri`.", url=name, reason=str(error.reason)
        ) from error


def _download(
    client: HttpClient, url: str, file: BinaryIO, validators: Validators | None
) -> Validators | None:
    headers: dict[str, str] = {}
    if validators is not None and validators.prove_something:
        head = _ask_head(client, url)
        if head is None:
            headers = validators.conditions
        elif head.same_file_as(validators):
            return None
    for left in reversed(range(RESUMES)):
        with client.open(url, headers=headers) as response:
            if response.status_code == 304 and "Range" not in headers and headers:
                return None
            if response.status_code != 206 or not _continues(response, file):
                refuse_status(response)
                file.seek(0)
                file.truncate()
            validators = Validators.from_headers(response.headers)
            try:
                _receive(client, response, file)
                return validators if response.status_code == 200 else replace(validators, length=file.tell())
            except FetchRefused as error:
                condition = validators.range_condition
                if error.reason != FetchReason.CUT_SHORT or not left or not file.tell() or condition is None:
                    raise
                headers = {"Range": f"bytes={file.tell()}-", "If-Range": condition}
    raise AssertionError("the last try returns or raises")


def _ask_head(client: HttpClient, url: str) -> Validators | None:
    """Return what HEAD says, None where the server refuses it or proves nothing by it."""
    try:
        with client.open(url, method="HEAD") as response:
            validators = Validators.from_headers(response.headers)
            return validators if response.status_code == 200 and validators.prove_something else None
    except FetchRefused:
        return None  # some servers drop the connection on HEAD; GET decides


def _continues(response: requests.Response, file: BinaryIO) -> bool:
    return response.headers.get("content-range", "").startswith(f"bytes {file.tell()}-")


def _receive(client: HttpClient, response: requests.Response, file: BinaryIO) -> None:
    room = MAX_DOWNLOAD_BYTES - file.tell()
    deadline = time.monotonic() + DEADLINE_SECONDS
    for piece in read_body(response, max_bytes=room, deadline=deadline, policy=client.policy):
        file.write(piece)
