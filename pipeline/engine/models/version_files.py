"""The engine's own copy of each version in the bucket, and the record of which files are in it.

The copy lies at `models/<model>/<version>`, where people put files too. The record, in the folder `engine`
that is reserved, is what makes a file the engine's: nothing that it does not name is changed or deleted.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.models.version_record import read_record, write_record
from pipeline.engine.serving.artifacts import fetch_model, is_model_file
from pipeline.errors import DamagedModel, FailedPrecondition, InvalidArgument, ObjectNotFound, UnknownBucket
from pipeline.ml_v1 import DAMAGED_FILES
from pipeline.storage import Storage

log = logging.getLogger(__name__)

RESERVED = "engine"  # the folder of the workspace that only the engine writes to
FIELD = "version.deployment_uri"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionPlace:
    """Where the copy of one version lies.

    Args:
        uri: The folder of the copy.
        staging: The reserved folder in which it is made.
        record: The reserved object that names its files.
    """

    uri: str
    staging: str
    record: str


class VersionFiles:
    """Makes, lists and removes the engine's copies of versions.

    Args:
        storage: Reads and copies models.
        workspace: The URI that copies are kept below.
    """

    def __init__(self, storage: Storage, workspace: str) -> None:
        self._storage = storage
        self.workspace = workspace
        self._reserved = f"{workspace}/{RESERVED}"
        self._models = f"{workspace}/models"

    def place(self, model: str, version: str) -> VersionPlace:
        """Return where the copy of a version lies."""
        return VersionPlace(
            uri=f"{self._models}/{model}/{version}",
            staging=f"{self._reserved}/staging/{model}/{version}",
            record=f"{self._reserved}/versions/{model}/{version}.json",
        )

    def model_record(self, model: str) -> str:
        """Return the URI of the record of a model and its versions."""
        return f"{self._reserved}/models/{model}.json"

    def list_copies(self) -> dict[tuple[str, str], bool]:
        """Return the versions of the bucket, each with whether the engine has a record of its files."""
        copies = {}
        for uri in self._storage.list_uris(f"{self._models}/"):
            model, *version = uri.removeprefix(f"{self._models}/").split("/")
            if len(version) == 2 and is_model_file(version[1]):
                copies[model, version[0]] = self.has_record(self.place(model, version[0]))
        return copies

    def check(self, place: VersionPlace, source: str) -> None:
        """Check that a copy can be made without touching what is not the engine's.

        Raises:
            InvalidArgument: if the source is, contains or lies in a place that the engine writes to.
            FailedPrecondition: if there are files in the place of the copy that the engine did not write.
        """
        if self.is_in_place(place, source):
            return
        self._check_overlap(place, source)
        prefix = f"{place.uri}/"
        names = {uri.removeprefix(prefix) for uri in self._storage.list_uris(prefix)}
        _refuse_foreign(place, names - set(self.digests(place) or {}))

    def is_in_place(self, place: VersionPlace, source: str) -> bool:
        """Return True if the source is the engine's own copy, registered again after a lost database."""
        return source.rstrip("/") == place.uri and self.has_record(place)

    def has_record(self, place: VersionPlace) -> bool:
        """Return whether the engine made the copy, even if its record is damaged."""
        return self._storage.exists(place.record)

    def _check_overlap(self, place: VersionPlace, source: str) -> None:
        for own in (place.uri, self._reserved):
            if self._storage.overlap(source, own):
                raise InvalidArgument(
                    f"{source} overlaps {own}/, where the engine keeps its own copies. Put the model "
                    "elsewhere, under jobs/ for instance, and name that place.",
                    field=FIELD,
                )

    def copy(self, place: VersionPlace, source: str) -> None:
        """Copy a model aside, then put it in its place; may be repeated after a crash.

        Raises:
            InvalidArgument, FailedPrecondition: as `check`.
        """
        if self.is_in_place(place, source):
            return
        self._check_overlap(place, source)
        storage = self._storage
        storage.delete_tree(place.staging)
        storage.copy_tree(source, place.staging)
        digests = self._digest(place.staging)
        self._check_place(place, digests)
        self._delete_named(place)
        write_record(storage, place.record, digests)
        storage.copy_tree(place.staging, place.uri)
        storage.delete_tree(place.staging)

    def _check_place(self, place: VersionPlace, digests: dict[str, str]) -> None:
        """Refuse files that are not the engine's, unless they are what the copy would write anyway."""
        own, present = self.digests(place) or {}, self._digest(place.uri)
        foreign = {name for name, digest in present.items() if name not in own}
        _refuse_foreign(place, {name for name in foreign if present[name] != digests.get(name)})

    def _digest(self, folder: str) -> dict[str, str]:
        prefix = f"{folder}/"
        uris = self._storage.list_uris(prefix)
        return {uri.removeprefix(prefix): self._digest_of(uri) for uri in uris}

    def _digest_of(self, uri: str) -> str:
        return _digest_of_file(self._storage.local_path(uri))  # in pieces: models are large

    def digests(self, place: VersionPlace) -> dict[str, str] | None:
        """Return the SHA-256 of each file of a copy as it was made; None if no record tells them."""
        return read_record(self._storage, place.record)

    def adopt(self, place: VersionPlace, source: str) -> None:
        """Record the files of a copy if its record is missing or damaged, and they are what its source holds.

        Nothing else tells the engine's files from those of somebody else, or damaged ones from intact ones.

        Raises:
            DamagedModel: if the source holds other files, or the record is damaged and the source is gone.
        """
        if self.digests(place) is not None:
            return
        originals = self._originals(place, source)
        if originals and all(self._has(f"{place.uri}/{name}", originals[name]) for name in originals):
            log.info("%s has no record of its files yet; their digests are recorded now.", place.uri)
            write_record(self._storage, place.record, originals)
        elif originals or self.has_record(place):
            raise DamagedModel(
                f"{DAMAGED_FILES} in {place.uri}/: {place.record} is missing or damaged, and {source} does "
                "not hold the same files, so they cannot be checked. Restore the record from a backup, or "
                "create another version from an intact model."
            )
        else:  # of an engine before these records
            log.warning(
                "%s has no record of its files, and %s is gone: nothing checks them.", place.uri, source
            )

    def _originals(self, place: VersionPlace, source: str) -> dict[str, str]:
        """Return the digests of what a copy was made of, as far as that is still there."""
        try:
            return {} if self._storage.overlap(source, place.uri) else self._digest(source.rstrip("/"))
        except UnknownBucket:
            return {}

    def fetch(self, place: VersionPlace, source: str, directory: Path) -> None:
        """Copy a version to this machine and check every file; damaged ones are restored from the source.

        Files that somebody put beside those of the version are not part of the local copy.

        Raises:
            DamagedModel: if the source has not the file any more that was copied from it, or nothing tells
                which files are right.
        """
        self.adopt(place, source)
        digests = self.digests(place) or {}
        try:
            fetch_model(self._storage, place.uri, directory, is_ours=True)
        except ObjectNotFound:
            if not digests:
                raise
        if not _is_intact(directory, digests):
            shutil.rmtree(directory, ignore_errors=True)
            self._restore(place, source, digests)
            fetch_model(self._storage, place.uri, directory, is_ours=True)
            if not _is_intact(directory, digests):
                shutil.rmtree(directory, ignore_errors=True)
                raise DamagedModel(f"{DAMAGED_FILES} in {directory}: what is written is read differently.")
        _drop_others(directory, digests)

    def _restore(self, place: VersionPlace, source: str, digests: dict[str, str]) -> None:
        damaged = [name for name, digest in digests.items() if not self._has(f"{place.uri}/{name}", digest)]
        lost = [name for name in damaged if not self._has(f"{source.rstrip('/')}/{name}", digests[name])]
        if lost:
            raise DamagedModel(
                f"{DAMAGED_FILES} in {place.uri}/: {', '.join(lost)} changed since the version was made, and "
                f"{source} does not hold the original. Create another version from an intact model."
            )
        for name in damaged:
            log.error("%s/%s was damaged and is restored from %s.", place.uri, name, source)
            data = self._storage.read_bytes(f"{source.rstrip('/')}/{name}")
            self._storage.write_bytes(f"{place.uri}/{name}", data)

    def _has(self, uri: str, digest: str) -> bool:
        return self._storage.exists(uri) and self._digest_of(uri) == digest

    def remove(self, place: VersionPlace) -> None:
        """Delete the copy: the files that its record names, and nothing else."""
        self._delete_named(place)
        self._storage.delete(place.record)
        self._storage.delete_tree(place.staging)

    def _delete_named(self, place: VersionPlace) -> None:
        for name in self.digests(place) or {}:
            self._storage.delete(f"{place.uri}/{name}")


def _is_intact(directory: Path, digests: dict[str, str]) -> bool:
    paths = {directory / name: digest for name, digest in digests.items()}
    return all(path.is_file() and _digest_of_file(path) == digest for path, digest in paths.items())


def _drop_others(directory: Path, digests: Collection[str]) -> None:
    """Remove from a local copy what the version did not have; without a record, nothing is known of that."""
    for path in directory.rglob("*") if digests else ():
        if path.is_file() and path.relative_to(directory).as_posix() not in digests:
            path.unlink()


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_foreign(place: VersionPlace, names: set[str]) -> None:
    if names:
        raise FailedPrecondition(
            f"{place.uri}/ holds {len(names)} files that the engine did not write, {min(names)} for "
            "instance. Move them, or choose another name for the version.",
            field="version.name",
        )
