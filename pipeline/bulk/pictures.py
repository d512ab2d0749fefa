"""The pictures of files, folders, archives and lists, in an order that is the same each time."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.datasets.fetcher import FetchPolicy, HttpClient, PictureFetcher, Validators, find_direct_link
from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.datasets.sources.archive_members import MAX_MEMBER_BYTES, Member, open_members
from pipeline.datasets.sources.layout import system_part
from pipeline.datasets.sources.lists import PictureList
from pipeline.datasets.sources.records import is_picture_name
from pipeline.errors import FetchRefused, PipelineError, StorageError, UndecodableImage

ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)
LIST = re.compile(r"\.(csv|tsv|txt|jsonl)$", re.IGNORECASE)
WEB = ("http", "https")
NUM_DOWNLOADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPicture:
    """A picture that is to be answered for.

    Args:
        name: What results call it: its path, the archive's path and its path in there, or its address.
        read: Reads its bytes, before the next picture is asked for; raises OSError or PipelineError.
    """

    name: str
    read: Callable[[], bytes]


def list_pictures(
    paths: Iterable[Path], done: Collection[str], policy: FetchPolicy
) -> Generator[BulkPicture, None, None]:
    """Yield the pictures of each path, each name once.

    A folder gives its files that are named like pictures, or have no extension. A path that gives none,
    because it is absent or damaged, is yielded itself, and its reading raises the reason.

    Args:
        paths: Files, folders, archives (zip, tar), and lists of addresses or paths (CSV, text, JSON lines).
        done: Names that are left out; an address among them is not downloaded.
        policy: Of downloads.
    """
    seen = set(done)
    for path in paths:
        for picture in _list_path(path, seen, policy):
            if picture.name not in seen:
                seen.add(picture.name)
                yield picture


def list_uploads(
    files: Iterable[tuple[str, Path]], policy: FetchPolicy
) -> Generator[BulkPicture, None, None]:
    """Yield the pictures of files that somebody sent; a list of theirs names addresses only.

    Args:
        files: The name of each file, which is only looked at, and where its bytes are.
        policy: Of downloads.
    """
    seen: set[str] = set()
    for name, path in files:
        for picture in _list_upload(printable_name(name), path, policy):
            free = (f"{picture.name} ({number})" for number in itertools.count(2))
            unique = (
                picture.name if picture.name not in seen else next(each for each in free if each not in seen)
            )
            seen.add(unique)
            yield replace(picture, name=unique)


def _list_upload(name: str, path: Path, policy: FetchPolicy) -> Iterator[BulkPicture]:
    try:
        if ARCHIVE.search(name):
            yield from _list_archive(path, name)
        elif LIST.search(name):
            yield from _list_list(path, name, (), policy, folder=None)
        else:
            yield BulkPicture(name=name, read=partial(_read_file, path))
    except (OSError, PipelineError) as error:
        yield BulkPicture(name=name, read=partial(_raise, error))


def printable_name(name: str) -> str:
    """Return a name as UTF-8 can hold it: other bytes of a file's name become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _list_path(path: Path, seen: Collection[str], policy: FetchPolicy) -> Iterator[BulkPicture]:
    try:
        if path.is_dir():
            yield from _list_folder(path)
        elif ARCHIVE.search(path.name):
            yield from _list_archive(path, str(path))
        elif LIST.search(path.name):
            yield from _list_list(path, str(path), seen, policy, folder=path.parent)
        else:
            yield _local_picture(path)
    except (OSError, PipelineError) as error:
        yield BulkPicture(name=printable_name(str(path)), read=partial(_raise, error))


def _list_folder(folder: Path) -> Iterator[BulkPicture]:
    unread: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=unread.append):
        folders[:] = sorted(name for name in folders if system_part(name) is None)
        for name in sorted(files):
            if system_part(name) is None and (is_picture_name(name) or "." not in name):
                yield _local_picture(Path(parent, name))
    for error in unread:
        yield BulkPicture(name=printable_name(str(error.filename)), read=partial(_raise, error))


def _list_archive(path: Path, origin: str) -> Iterator[BulkPicture]:
    with path.open("rb") as file:
        for member in open_members(file, origin=origin):
            if is_picture_name(member.name) or "." not in member.name.rpartition("/")[2]:
                name = printable_name(f"{origin}/{member.name}")
                yield BulkPicture(name=name, read=partial(_read_member, member))


def _list_list(
    path: Path, origin: str, seen: Collection[str], policy: FetchPolicy, *, folder: Path | None
) -> Iterator[BulkPicture]:
    """Yield the pictures of a list; some addresses are downloaded ahead."""
    waiting: deque[tuple[str, Future[bytes]]] = deque()
    with (
        path.open("rb") as file,
        tempfile.TemporaryDirectory(prefix="graft-predict-") as parts,
        HttpClient(policy) as client,
        ThreadPoolExecutor(NUM_DOWNLOADS, thread_name_prefix="graft-predict") as pool,
    ):
        try:
            for row in PictureList(file, origin=origin, needs_labels=False).rows():
                name = printable_name(row.file)
                if name in seen:
                    continue
                read = partial(_read_row, row.file, folder, client, Path(parts))
                waiting.append((name, pool.submit(read)))
                if len(waiting) > 2 * NUM_DOWNLOADS:
                    yield _pop(waiting)
            while waiting:
                yield _pop(waiting)
        finally:
            pool.shutdown(cancel_futures=True)


def _pop(waiting: deque[tuple[str, Future[bytes]]]) -> BulkPicture:
    name, future = waiting.popleft()
    return BulkPicture(name=name, read=future.result)


def _read_row(file: str, folder: Path | None, client: HttpClient, parts: Path) -> bytes:
    """Return the picture that a list names: at an address, or relative to the folder, if files count."""
    if _scheme(file) in WEB:
        return download(file, client, parts)
    if folder is None:
        raise FetchRefused("is no address that begins with http:// or https://.", reason=FetchReason.BAD_URL)
    return _read_file(folder / file.removeprefix("file://"))


def _scheme(file: str) -> str:
    try:
        return urlsplit(file).scheme
    except ValueError:  # `http://[x`
        return ""


def download(url: str, client: HttpClient, parts: Path) -> bytes:
    """Return the picture at an address.

    Raises:
        FetchRefused: with the reason why there is none.
    """
    pictures: list[bytes] = []

    def keep(data: bytes) -> str:
        pictures.append(data)
        return ""

    PictureFetcher(client, keep=keep, parts=parts).fetch(find_direct_link(url), validators=Validators())
    return pictures[0]


def _local_picture(path: Path) -> BulkPicture:
    return BulkPicture(name=printable_name(str(path)), read=partial(_read_file, path))


def _read_file(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise StorageError(f"{path} is no regular file.")
    if path.stat().st_size > MAX_MEMBER_BYTES:
        raise UndecodableImage(
            f"{path} has more than {MAX_MEMBER_BYTES // 1_000_000} MB, which no picture needs.",
            reason="too_large",
        )
    return path.read_bytes()


def _read_member(member: Member) -> bytes:
    if member.refused is not None:
        raise FetchRefused(f"the member is refused: {member.refused}.", reason=member.refused)
    return member.read()


def _raise(error: OSError | PipelineError) -> bytes:
    raise error
