"""Getting files over HTTP: safely, politely, and not at all when they are unchanged.

Every request goes to an address that was checked (`addresses`) on the connection that is used (`connection`),
at the pace its host bears (`hosts`), and its answer is read within limits (`body`).
"""

from pipeline.datasets.fetcher.client import HttpClient, public_url
from pipeline.datasets.fetcher.conditional_get import download_if_changed
from pipeline.datasets.fetcher.picture import FetchedPicture, PictureFetcher
from pipeline.datasets.fetcher.policy import FetchPolicy
from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.datasets.fetcher.share_links import find_direct_link
from pipeline.datasets.fetcher.validators import Validators

__all__ = [
    "FetchPolicy",
    "FetchReason",
    "FetchedPicture",
    "HttpClient",
    "PictureFetcher",
    "Validators",
    "download_if_changed",
    "find_direct_link",
    "public_url",
]
