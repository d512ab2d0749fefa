"""What an S3-compatible store says when it refuses, as our errors: each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.errors import ObjectNotFound, StorageError, StorageRefused, UnknownBucket
from pipeline.storage.addresses import S3Address

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

MISSING = frozenset({"NoSuchKey", "404"})
_KEY = (
    "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if the key is a temporary "
    "one), or the profile AWS_PROFILE."
)
_CLOCK = "The clock of this machine is wrong: set it, for example with `timedatectl set-ntp true`."
_REGION = "Name the region of the bucket in GRAFT_BUCKETS: ?region=..."
_RIGHTS = (
    "The key needs s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and "
    "s3:AbortMultipartUpload on its objects."
)
_REMEDIES = {
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem", "403"), _RIGHTS),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"), _KEY),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired"), _CLOCK),
    **dict.fromkeys(("AuthorizationHeaderMalformed", "PermanentRedirect", "301"), _REGION),
    "EntityTooLarge": "An object that is created, not replaced, has at most 5 GB.",
}


@contextmanager
def s3_errors(what: str, address: S3Address, key: str, *, needs_object: bool = False) -> Iterator[None]:
    """Raise the client's errors, and those of files on the way, as ours.

    Args:
        what: What is done to the object, for the message.
        address: Of the bucket.
        key: Of the object in the store.
        needs_object: Whether an object that is not there is an error of its own.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    place = f"s3://{address.bucket}/{key}"
    try:
        yield
    except ClientError as error:
        raise _refusal(error, f"{what} {place}", key, address, needs_object=needs_object) from error
    except BotoCoreError as error:
        raise _failure(error, f"{what} {place}", key, address) from error
    except OSError as error:
        raise StorageError(f"{what} {place} failed: {error}", key=key) from error


def code_of(error: ClientError) -> str:
    """Return the store's word for an error; for a request whose answer has no body its HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _refusal(
    error: ClientError, what: str, key: str, address: S3Address, *, needs_object: bool
) -> StorageError:
    code = code_of(error)
    if needs_object and code in MISSING:
        return ObjectNotFound(f"There is no object s3://{address.bucket}/{key}.", key=key)
    if code in ("NoSuchBucket", *MISSING):
        message = f"{what} failed: {error} Make the bucket, or correct its name in GRAFT_BUCKETS."
        return UnknownBucket(message, bucket=address.bucket)
    if code in _REMEDIES:
        return StorageRefused(f"{what} failed: {error} {_REMEDIES[code]}", key=key)
    return StorageError(f"{what} failed: {error}", key=key)


def _failure(error: Exception, what: str, key: str, address: S3Address) -> StorageError:
    from botocore import exceptions

    place, text = address.endpoint or "Amazon S3", f"{what} failed: {str(error).rstrip('.')}."
    if isinstance(
        error,
        exceptions.NoCredentialsError
        | exceptions.PartialCredentialsError
        | exceptions.CredentialRetrievalError
        | exceptions.ProfileNotFound
        | exceptions.ConfigParseError
        | exceptions.SSOError,
    ):
        keys = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, where Graft runs."
        return StorageRefused(f"{text} {keys}", key=key)
    if isinstance(error, exceptions.SSLError):
        remedy = f"If {place} has a certificate authority of its own, name its file in AWS_CA_BUNDLE."
    else:
        remedy = f"{place} gave no answer: check the endpoint in GRAFT_BUCKETS, the server and the network."
    return StorageError(f"{text} {remedy}", key=key)
