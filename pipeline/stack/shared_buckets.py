"""Where workers are on several machines, a bucket is what each of them reaches, and no directory of one."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Settings
from pipeline.errors import StackError
from pipeline.storage import WORKSPACE_BUCKET, BucketAddress, parse_buckets


def _places(settings: Settings) -> dict[str, BucketAddress]:
    places = parse_buckets(settings.buckets)
    if settings.bucket == WORKSPACE_BUCKET:
        places.setdefault(WORKSPACE_BUCKET, settings.home / "buckets" / WORKSPACE_BUCKET)
    return places


def has_directory(settings: Settings) -> bool:
    """Return True if the workspace's bucket is a directory, which is lost with its machine."""
    return isinstance(_places(settings).get(settings.bucket), Path)


def check_shared(settings: Settings) -> None:
    """Check that no bucket is a directory.

    Raises:
        StackError: naming those that are.
    """
    places = _places(settings)
    directories = [f"gs://{name} ({place})" for name, place in places.items() if isinstance(place, Path)]
    if directories:
        raise StackError(
            f"These buckets are directories, which other machines do not see: {', '.join(directories)}. Map "
            "them to an S3-compatible store, such as GRAFT_BUCKETS="
            f"{settings.bucket}=s3://company-bucket/graft, or name a bucket of Google Cloud Storage in "
            "GRAFT_BUCKET. Copy what is in them first, with `rclone copy` for example."
        )
