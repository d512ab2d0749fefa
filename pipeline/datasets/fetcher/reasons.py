"""Why an address gave no picture: the closed list that journals, indexes and cards use."""

from __future__ import annotations

from enum import StrEnum


class FetchReason(StrEnum):
    """Why an address gave no picture; docs/classifiers.md explains each."""

    BAD_URL = "bad_url"
    PRIVATE_ADDRESS = "private_address"
    PORT_NOT_ALLOWED = "port_not_allowed"
    UNKNOWN_HOST = "unknown_host"
    UNREACHABLE = "unreachable"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    BAD_REDIRECT = "bad_redirect"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    HOST_GIVEN_UP = "host_given_up"
    TIMEOUT = "timeout"
    TOO_SLOW = "too_slow"
    TOO_LARGE = "too_large"
    CUT_SHORT = "cut_short"
    BAD_ENCODING = "bad_encoding"
    ROBOTS_DISALLOWED = "robots_disallowed"
    OPTED_OUT = "opted_out"
    PLACEHOLDER = "placeholder"
    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_MANY_PIXELS = "too_many_pixels"
    DAMAGED_HEADER = "damaged_header"
    TOO_SMALL = "too_small"
    LICENSE_NOT_ALLOWED = "license_not_allowed"
    BAD_MEMBER_NAME = "bad_member_name"
    MEMBER_IS_LINK = "member_is_link"
    MEMBER_IS_DEVICE = "member_is_device"
    MEMBER_ENCRYPTED = "member_encrypted"
    MEMBER_TOO_LARGE = "member_too_large"
    MEMBER_RATIO = "member_ratio"
    MEMBER_DOUBLED = "member_doubled"
    MEMBER_DAMAGED = "member_damaged"
    MEMBER_UNLABELLED = "member_unlabelled"
    UNLABELLED = "unlabelled"

    @property
    def is_transient(self) -> bool:
        """Whether another try, later, may give the picture."""
        return self in _TRANSIENT


_TRANSIENT = frozenset(
    {
        FetchReason.UNREACHABLE,
        FetchReason.UNKNOWN_HOST,
        FetchReason.RATE_LIMITED,
        FetchReason.SERVER_ERROR,
        FetchReason.HOST_GIVEN_UP,
        FetchReason.TIMEOUT,
        FetchReason.TOO_SLOW,
        FetchReason.CUT_SHORT,
    }
)
