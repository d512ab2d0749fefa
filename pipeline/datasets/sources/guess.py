"""The section of a source that a path or an address most likely is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.errors import ConfigError
from pipeline.storage import Storage
from pipeline.types import JsonDict

ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
LISTS = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".ndjson", ".manifest")
WEB = ("http", "https")


def guess_section(
    storage: Storage, source: str, *, label: str | None = None, classes: Sequence[str] = ()
) -> JsonDict:
    """Return the `dataset.source` section for a folder, an archive, an NPZ file, a list, or a web page.

    Args:
        storage: Reads `gs://` URIs.
        source: A path, `file://`, `gs://` or `http(s)://` address.
        label: The class of every picture of it.
        classes: The labels of class 0, of class 1, and so on.

    Raises:
        ConfigError: if a page has no label.
    """
    scheme = urlsplit(source).scheme
    uri = source if scheme else str(Path(source).expanduser().absolute())
    section: JsonDict = {"type": _guess_type(storage, uri), "uri": uri}
    if label is not None:
        section["label"] = label
    if classes:
        section["classes"] = list(classes)
    if section["type"] == "web_page" and label is None:
        raise ConfigError(
            f"{source} counts as a web page, whose pictures need a class: add --label. An archive, a list or "
            f"an NPZ file has a name that ends in one of {', '.join((*ARCHIVES, '.npz', *LISTS))}."
        )
    return section


def _guess_type(storage: Storage, uri: str) -> str:
    scheme = urlsplit(uri).scheme
    path = unquote(urlsplit(uri).path) if scheme else uri
    suffix = Path(path).suffix.lower()
    if scheme not in WEB and _is_folder(storage, uri, scheme, path):
        return "folder"
    if suffix == ".npz":
        return "npz"
    if suffix in LISTS:
        return "url_list"
    return "web_page" if scheme in WEB and suffix not in ARCHIVES else "archive"


def _is_folder(storage: Storage, uri: str, scheme: str, path: str) -> bool:
    return not storage.exists(uri) if scheme == "gs" else Path(path).is_dir()
