"""Pictures that people upload for a classifier, and the records of who uploaded what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import unquote

from pipeline.artifacts.folders import UploadFolder
from pipeline.artifacts.record import Record

_PICTURE = re.compile(r"(?P<label>[^/]+)/(?P<digest>[0-9a-f]{64})\.(?P<suffix>[a-z0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedPicture:
    """A picture that was uploaded.

    Args:
        label: Its class.
        digest: SHA-256 of its file.
        uri: Of the file.
    """

    label: str
    digest: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """A file of one upload.

    Args:
        label: The class that it was uploaded for.
        digest: SHA-256 of its bytes.
        name: What the file was called where it came from.
        num_bytes: Its size.
    """

    label: str
    digest: str
    name: str
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload(Record):
    """Who uploaded which files, and when.

    It is written before the files, so that no file is without one. If files of it are not there, the upload
    was cut short.

    Args:
        by: The user.
        at: When, in ISO 8601.
        files: The files.
    """

    FORMAT: ClassVar[int | None] = 1

    by: str
    at: str
    files: tuple[UploadedFile, ...]


def list_pictures(folder: UploadFolder) -> list[UploadedPicture]:
    """Return every picture that was uploaded, sorted by label and digest; other files are none."""
    prefix = folder.file("")
    pictures = []
    for uri in folder.storage.list_uris(prefix):
        if match := _PICTURE.fullmatch(uri.removeprefix(prefix)):
            label = unquote(match["label"])
            pictures.append(UploadedPicture(label=label, digest=match["digest"], uri=uri))
    return sorted(pictures, key=lambda picture: (picture.label, picture.digest))


def read_uploads(folder: UploadFolder) -> list[Upload]:
    """Return the record of every upload, oldest first."""
    return [Upload.read(folder.storage, uri) for uri in folder.storage.list_uris(folder.records)]
