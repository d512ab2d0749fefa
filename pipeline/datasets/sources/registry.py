"""From a source's section to the source itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.config import SourceSection
from pipeline.config.sources import ClassedSection, FolderSection, NpzSection, SampleSection
from pipeline.datasets.sources.archive import ArchiveSource
from pipeline.datasets.sources.feedback import FeedbackSource
from pipeline.datasets.sources.flickr import FlickrSource
from pipeline.datasets.sources.folder import FolderSource
from pipeline.datasets.sources.google_custom_search import GoogleSource
from pipeline.datasets.sources.label_list import ListOptions
from pipeline.datasets.sources.npz_archive import NpzSource
from pipeline.datasets.sources.openverse import OpenverseSource
from pipeline.datasets.sources.sample import SampleSource
from pipeline.datasets.sources.source import ImageSource, SourceContext
from pipeline.datasets.sources.uploads import UploadsSource
from pipeline.datasets.sources.url_list import UrlListSource
from pipeline.datasets.sources.web_page import WebPageSource
from pipeline.datasets.sources.wikimedia_commons import WikimediaSource


def _open_folder(section: FolderSection, context: SourceContext) -> ImageSource:
    return FolderSource(
        section.uri,
        classes=section.classes,
        label=section.label,
        storage=context.storage,
        is_alone=context.is_alone,
        may_descend=context.may_descend,
        lists=ListOptions(columns=section.columns, label_from=section.label_from or "largest"),
        label_pattern=section.label_pattern,
    )


def _open_npz(section: NpzSection, context: SourceContext) -> ImageSource:
    return NpzSource(
        section.uri,
        classes=section.classes or [],
        label=section.label,
        storage=context.storage,
        previous=context.previous,
    )


def _open_sample(section: SampleSection, context: SourceContext) -> ImageSource:
    return SampleSource(classes=section.classes, label=section.label)


SOURCES: dict[str, Callable[[Any, SourceContext], ImageSource]] = {
    "archive": ArchiveSource,
    "feedback": FeedbackSource,
    "flickr": FlickrSource,
    "folder": _open_folder,
    "google_custom_search": GoogleSource,
    "npz": _open_npz,
    "openverse": OpenverseSource,
    "sample": _open_sample,
    "uploads": UploadsSource,
    "url_list": UrlListSource,
    "web_page": WebPageSource,
    "wikimedia_commons": WikimediaSource,
}


def open_source(section: SourceSection | ClassedSection, context: SourceContext) -> ImageSource:
    """Make the source that a section describes; nothing is read yet.

    Args:
        section: One of the sections of `pipeline.config.sources`.
        context: What it works with.
    """
    return SOURCES[section.type](section, context)  # type: ignore[union-attr]
