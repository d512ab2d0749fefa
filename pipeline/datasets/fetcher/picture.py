"""Getting one picture: only if it changed, only its missing part, and only if it is one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from pipeline.datasets.fetcher.client import HttpClient, public_url, refuse_status
from pipeline.datasets.fetcher.limited_reader import read_body
from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.datasets.fetcher.resumable import MEMORY_BYTES, PartFile
from pipeline.datasets.fetcher.validators import Validators
from pipeline.errors import FetchRefused, UndecodableImage
from pipeline.pixels.conversion import convert_picture, find_highest_level
from pipeline.pixels.host import picture_facts

OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
PLACEHOLDER_BYTES = 2051  # Flickr's "photo no longer available", the article's rule
PLACEHOLDER_NAME = "photo_unavailable"
LARGE_AT_ONCE = 3
_HEADER_REASONS = {
    "not_an_image": FetchReason.NOT_AN_IMAGE,
    "unsupported_format": FetchReason.UNSUPPORTED_FORMAT,
    "too_many_pixels": FetchReason.TOO_MANY_PIXELS,
    "empty_file": FetchReason.EMPTY_FILE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedPicture:
    """The result of a request for a picture.

    Args:
        kept: What `keep` returned for the bytes; None if the file has not changed.
        validators: What the server says of the file.
        num_bytes: Of the file; 0 if nothing was transferred.
        levels: The highest level of a file of 16-bit levels.
    """

    kept: str | None
    validators: Validators
    num_bytes: int
    levels: int | None = None


class PictureFetcher:
    """Gets pictures through one client; used by many threads.

    Args:
        client: Sends the requests.
        keep: Takes the bytes of a good picture and returns a name for them.
        parts: Directory of downloads in progress.
        check_robots: Refuses an address that robots.txt keeps from us.
    """

    def __init__(
        self,
        client: HttpClient,
        *,
        keep: Callable[[bytes], str],
        parts: Path,
        check_robots: Callable[[str], None] | None = None,
    ) -> None:
        self._client = client
        self._keep = keep
        self._parts = parts
        self._check_robots = check_robots
        self._large = threading.Semaphore(LARGE_AT_ONCE)

    @property
    def num_requests_of_thread(self) -> int:
        """How many requests the thread that asks has sent."""
        return self._client.num_requests_of_thread

    def fetch(
        self, url: str, *, validators: Validators, min_side: int = 1, obeys_robots: bool = False
    ) -> FetchedPicture:
        """Get the picture at an address unless it has not changed.

        Args:
            url: `http(s)` address.
            validators: Those of the file when it was last read.
            min_side: Pixels that the shorter side must have.
            obeys_robots: Whether robots.txt has a say, on every host of the way.

        Raises:
            FetchRefused: with the reason why there is no picture.
        """
        part = PartFile(self._parts, url)
        try:
            for attempt in range(self._client.policy.attempts):
                try:
                    return self._fetch_once(url, part, validators, min_side, obeys_robots)
                except FetchRefused as error:
                    if error.reason != FetchReason.CUT_SHORT or attempt + 1 == self._client.policy.attempts:
                        raise
            raise AssertionError("attempts is at least 1")
        finally:
            part.close()

    def _fetch_once(
        self, url: str, part: PartFile, validators: Validators, min_side: int, obeys_robots: bool
    ) -> FetchedPicture:
        resume = part.resume_headers()
        headers = {"Accept": "image/*", **(resume or validators.conditions)}
        deadline = time.monotonic() + self._client.policy.config.deadline_seconds
        check_hop = self._check_robots if obeys_robots else None
        with self._client.open(url, headers=headers, check_hop=check_hop) as response:
            if response.status_code == 304 and validators.prove_something and not resume:
                return FetchedPicture(kept=None, validators=validators, num_bytes=0)
            self._check_answer(response)
            validators = Validators.from_headers(response.headers)
            self._receive(response, part, validators, deadline)
        with self._room_for(part.num_bytes):
            data = part.read()
            part.drop()
            num_bytes = len(data)
            conversion = convert_picture(data)
            data = data if conversion is None else conversion.data
            try:
                check_picture(data, min_side=min_side, num_bytes=num_bytes)
            except FetchRefused as error:  # the server can say the next time that it is still the same file
                raise FetchRefused(error.message, reason=error.reason, validators=validators) from error
            return FetchedPicture(
                kept=self._keep(data),
                validators=validators,
                num_bytes=num_bytes,
                levels=find_highest_level(data),
            )

    def _check_answer(self, response: requests.Response) -> None:
        if PLACEHOLDER_NAME in urlsplit(response.url).path.lower():
            raise FetchRefused(
                "leads to the picture of an unavailable photo.", reason=FetchReason.PLACEHOLDER
            )
        honoured = self._client.policy.config.honour_opt_outs
        if honoured and opts_out(response.headers.get("x-robots-tag", "")):
            raise FetchRefused(
                f"{public_url(response.url)} opts out by X-Robots-Tag.", reason=FetchReason.OPTED_OUT
            )
        if response.status_code not in (206, 416):
            refuse_status(response)

    def _receive(
        self, response: requests.Response, part: PartFile, validators: Validators, deadline: float
    ) -> None:
        policy = self._client.policy
        if response.status_code == 200:
            part.restart(validators)
        elif _range_start(response) == part.num_bytes > 0:
            part.go_on()
        else:
            part.drop()
            raise FetchRefused("answered with another range than asked for.", reason=FetchReason.CUT_SHORT)
        room = policy.config.max_picture_bytes - part.num_bytes
        try:
            for piece in read_body(response, max_bytes=room, deadline=deadline, policy=policy):
                part.write(piece)
        except FetchRefused as error:
            if not FetchReason(error.reason).is_transient:
                part.drop()
            raise

    @contextmanager
    def _room_for(self, num_bytes: int) -> Iterator[None]:
        """Hold few large pictures in memory at a time."""
        if num_bytes <= MEMORY_BYTES:
            yield
            return
        with self._large:
            yield


def _range_start(response: requests.Response) -> int:
    text = response.headers.get("content-range", "") if response.status_code == 206 else ""
    start = text.removeprefix("bytes ").partition("-")[0]
    return int(start) if text.startswith("bytes ") and start.isascii() and start.isdigit() else -1


def opts_out(header: str) -> bool:
    """Return True if an X-Robots-Tag keeps the picture out of data sets, for all agents or for ours."""
    for part in header.lower().split(","):
        agent, _, directive = part.rpartition(":")
        if directive.strip() in OPT_OUTS and agent.strip() in ("", "*", "graft"):
            return True
    return False


def check_picture(data: bytes, *, min_side: int, num_bytes: int | None = None) -> None:
    """Look at the header of a picture file: a downloaded page, bomb or placeholder is no picture.

    Args:
        data: The file.
        min_side: Pixels that the shorter side must have.
        num_bytes: Of the file as it was downloaded, if it was converted.

    Raises:
        FetchRefused: with the reason.
    """
    try:
        facts = picture_facts(data)
    except UndecodableImage as error:
        reason = _HEADER_REASONS.get(error.reason, FetchReason.DAMAGED_HEADER)
        raise FetchRefused(error.message, reason=reason) from error
    if (num_bytes or len(data)) == PLACEHOLDER_BYTES and facts.format in ("GIF", "PNG"):
        raise FetchRefused("is the picture of an unavailable photo.", reason=FetchReason.PLACEHOLDER)
    if min(facts.width, facts.height) < min_side:
        raise FetchRefused(
            f"has {facts.width} x {facts.height} pixels; the shorter side needs {min_side}.",
            reason=FetchReason.TOO_SMALL,
        )
