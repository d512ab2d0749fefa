"""Why a picture is not kept: the closed list of reasons, each with its meaning.

A source adds its own reasons for what it could not download; they are kept as it gives them.
"""

from __future__ import annotations

EXACT_DUPLICATE = "exact_duplicate"
CONFLICTING_LABELS = "conflicting_labels"
STRADDLES_SPLIT = "straddles_split"
PLACEHOLDER = "placeholder"
TOO_SMALL = "too_small"
LOW_INFORMATION = "low_information"
SMALL_CLASS = "small_class"
DELETED = "deleted"
TAKEN_DOWN = "taken_down"
OUTSIDE_WINDOW = "outside_window"

REASONS = {
    "empty_file": "the file has no bytes",
    "not_an_image": "the bytes are no picture, whatever the name says",
    "unsupported_format": "a picture of a format that is neither read nor converted",
    "unsupported_mode": "a coding or colour mode that decoders do not agree on",
    "truncated": "the file ends before the picture does",
    "corrupt": "the data of the picture is damaged",
    "too_many_pixels": "more than 50 megapixels",
    TOO_SMALL: "from the network, and a side is shorter than 64 pixels",
    LOW_INFORMATION: "from the network, and nearly one colour",
    PLACEHOLDER: "from the network, and three or more addresses gave the same bytes",
    CONFLICTING_LABELS: "the same pixels under two labels; it is unknown which is right",
    EXACT_DUPLICATE: "the same pixels as an earlier picture of its class, which is kept",
    STRADDLES_SPLIT: "a near duplicate of a training picture and of a test picture, or a training copy of a "
    "picture in the source's own test set",
    SMALL_CLASS: "its class has too few different pictures to be trained and tested: `dataset.small_classes`",
    DELETED: "`decisions.csv` says so",
    TAKEN_DOWN: "`graft dataset forget`",
    OUTSIDE_WINDOW: "older than `dataset.window` reaches",
}
# Not counted as quarantined: nothing is wrong with these pictures, or a person left them out.
NOT_QUARANTINE = frozenset({EXACT_DUPLICATE, SMALL_CLASS, DELETED, TAKEN_DOWN, OUTSIDE_WINDOW})
