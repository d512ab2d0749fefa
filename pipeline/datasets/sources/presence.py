"""Whether the places that a classifier's sources name are there, asked before a run starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.config import Classifier
from pipeline.config.problems import suggest
from pipeline.datasets.fetcher import FetchPolicy, FetchReason, HttpClient
from pipeline.datasets.fetcher.client import refuse_status
from pipeline.errors import FetchRefused, StorageError
from pipeline.storage import Storage

WEB = ("http", "https")
# What another try may mend is left to the fetch, which tries again.
LASTING = frozenset(
    {FetchReason.BAD_URL, FetchReason.NOT_FOUND, FetchReason.UNKNOWN_HOST, FetchReason.PRIVATE_ADDRESS}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSource:
    """A source whose folder, file, bucket or address is not there.

    Args:
        problem: The key, what is wrong, and the fix where one is known.
        is_address: Whether it is on the network, which may be what is missing.
    """

    problem: str
    is_address: bool

    def __str__(self) -> str:
        return self.problem


def find_missing_sources(
    storage: Storage, classifier: Classifier, policy: FetchPolicy
) -> Iterator[MissingSource]:
    """Yield each source whose folder, file, bucket or address is not there.

    An address is asked once; a host or bucket with an error of its own counts as there.

    Args:
        storage: Reads `gs://` URIs.
        classifier: The classifier as the run has it.
        policy: How the network may be used.
    """
    if classifier.dataset.as_of is not None:
        return  # nothing is fetched
    for number, section in enumerate(classifier.dataset.all_sources):
        uri = getattr(section, "uri", None)
        if uri is None:
            continue
        key = "dataset.source.uri" if classifier.dataset.source else f"dataset.sources[{number}].uri"
        if problem := _find_problem(storage, uri, policy, is_folder=section.type == "folder"):
            yield MissingSource(problem=f"`{key}`: {problem}", is_address=urlsplit(uri).scheme in WEB)


def _find_problem(storage: Storage, uri: str, policy: FetchPolicy, *, is_folder: bool) -> str:
    scheme = urlsplit(uri).scheme
    if scheme in WEB:
        return _ask(uri, policy)
    if scheme == "gs":
        return _look_in_bucket(storage, uri, is_folder=is_folder)
    return _look_on_disk(Path(unquote(urlsplit(uri).path) if scheme == "file" else uri).expanduser())


def _ask(url: str, policy: FetchPolicy) -> str:
    patient = replace(policy.naming(url), attempts=1, connect_seconds=5.0, read_seconds=5.0)
    try:
        with closing(HttpClient(patient)) as client, client.open(url) as response:
            refuse_status(response)
    except FetchRefused as error:
        if error.reason in LASTING:
            return f"{error.message} Correct the address"
    return ""


def _look_in_bucket(storage: Storage, uri: str, *, is_folder: bool) -> str:
    try:
        is_there = bool(storage.list_uris(f"{uri.rstrip('/')}/")) if is_folder else storage.exists(uri)
    except StorageError as error:
        return "" if error.transient else str(error)
    what = "object below" if is_folder else "object"
    return "" if is_there else f"there is no {what} {uri}. Correct bucket or path"


def _look_on_disk(path: Path) -> str:
    if path.exists():
        return ""
    parent = next(parent for parent in path.parents if parent.exists())
    missing = path.parts[len(parent.parts)]
    names = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    return f"there is no {path}: {parent} has no `{missing}`{suggest(missing, names)}"
