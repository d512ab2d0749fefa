"""Objects by URI, in directories or in Google Cloud Storage."""

from pipeline.storage.storage import WORKSPACE_BUCKET, Storage, parse_buckets

__all__ = ["WORKSPACE_BUCKET", "Storage", "parse_buckets"]
