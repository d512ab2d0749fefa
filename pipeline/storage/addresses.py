"""What `GRAFT_BUCKETS` says of a bucket: its directory, or its place in an S3-compatible store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pipeline.errors import ConfigError

_EXAMPLE = "s3://company-bucket/prefix?endpoint=https://minio.example:9000&region=eu-central-1"
_OPTIONS = ("endpoint", "region")
_NAME = re.compile(r"[^/:@?]+")
_S3_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Address:
    """Where the objects of a bucket are in an S3-compatible store; whose key is used, the environment says.

    Args:
        bucket: The store's name of the bucket.
        prefix: What every key begins with; empty for the whole bucket.
        endpoint: The store's address; empty for Amazon's.
        region: The region of the bucket; empty for that of the environment.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `s3://bucket/prefix?endpoint=...&region=...`.

        Raises:
            ConfigError: if it is not that, or holds a password; the message does not repeat what it holds.
        """
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        endpoint = urlsplit(options.get("endpoint", ""))
        if "@" in parts.netloc or "@" in endpoint.netloc or set(options) - set(_OPTIONS):
            raise ConfigError(
                f"An address of S3 in GRAFT_BUCKETS has the options {' and '.join(_OPTIONS)}, and no key or "
                f"password: those come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from the profile "
                f"AWS_PROFILE. Expected, for example: {_EXAMPLE}"
            )
        is_url = endpoint.scheme in ("http", "https") and endpoint.hostname and not endpoint.query
        if not _S3_NAME.fullmatch(parts.netloc) or parts.fragment or ("endpoint" in options and not is_url):
            raise ConfigError(
                f"GRAFT_BUCKETS wants an address like {_EXAMPLE}; the name of a bucket has 3 to 63 "
                "lower-case letters, digits, dots and hyphens, and an endpoint is http:// or https://. "
                f"Received: {text!r}"
            )
        return cls(bucket=parts.netloc, prefix=parts.path.strip("/"), **options)

    def __str__(self) -> str:
        options = {name: getattr(self, name) for name in _OPTIONS if getattr(self, name)}
        query = f"?{urlencode(options, safe='/:', quote_via=quote)}" if options else ""
        return f"s3://{self.bucket}{f'/{self.prefix}' if self.prefix else ''}{query}"


BucketAddress = Path | S3Address


def parse_buckets(text: str) -> dict[str, BucketAddress]:
    """Read `GRAFT_BUCKETS`: `name=/directory` and `name=s3://bucket/prefix` pairs, separated by commas.

    Raises:
        ConfigError: if a part is neither.
    """
    buckets: dict[str, BucketAddress] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, address = (word.strip() for word in part.partition("="))
        if not (_NAME.fullmatch(name) and equals and address):
            raise ConfigError(
                "GRAFT_BUCKETS wants name=/directory pairs separated by commas; s3://bucket/prefix may stand "
                f"where the directory does. Received: {'something with an @' if '@' in part else repr(part)}"
            )
        is_s3 = address.startswith("s3://")
        buckets[name] = S3Address.parse(address) if is_s3 else Path(address).expanduser().absolute()
    return buckets
