"""Objects by URI, in directories, in S3-compatible stores or in Google Cloud Storage."""

from pipeline.storage.addresses import BucketAddress, S3Address, parse_buckets
from pipeline.storage.storage import WORKSPACE_BUCKET, Storage

__all__ = ["WORKSPACE_BUCKET", "BucketAddress", "S3Address", "Storage", "parse_buckets"]
