"""Warnings about a dataset that is fit for training but deserves a look, by the names cleanvision uses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import numpy as np

from pipeline.artifacts.manifest import ManifestRow
from pipeline.config.labels import fold_label, singular
from pipeline.pixels.spec import ALL_BITS, USED_BITS
from pipeline.preprocess.dedup.grouping import Grouping
from pipeline.preprocess.small_classes import list_counts
from pipeline.preprocess.split import TEST, TRAIN

SMALL_CLASS = 10  # pictures
FEW = 3  # classes with a warning of their own; more of them share one
IMBALANCE = 5  # times as many pictures in the largest class as in the smallest
ODD_ASPECT_RATIO = 0.35  # of the shorter side to the longer
ODD_SIZE_SPREADS = 3  # interquartile ranges beyond the quartiles
ODD_SIZE_FACTOR = 2  # of the median, at least
DARK_BITS = 14  # of 16: files that use no more show at most a quarter of the brightness
MIN_FOR_SPREAD = 10  # pictures
# How tools name the altered copies that they export: Roboflow, Augmentor, imgaug and scripts of people.
AUGMENTED_NAME = re.compile(
    r"(^|[_.-])(aug|augmented|flip|flipped|hflip|vflip|mirror|mirrored|rot|rotated|rot90|rot180|rot270)"
    r"([_.-]?\d+)?([_.-]|$)|\.rf\.[0-9a-f]{16,}\b",
    re.IGNORECASE,
)

MASK_NAME = re.compile(
    r"^(.+?)[ _-]?\(?(?:mask|masks|gt|seg|segmentation|label|labels)\)?(?:[ _-]?\d+)?$", re.IGNORECASE
)
_WHOLE = re.compile(r"(?<=\d)\.0+$")  # `1.0` is 1


def find_warnings(rows: Sequence[ManifestRow], grouping: Grouping, *, is_random_split: bool) -> list[str]:
    """Return what a reader of the card should know, each led by the name of the issue."""
    kept = [row for row in rows if row.split is not None]
    return [
        *_check_labels(kept, grouping),
        *(_check_straddling(kept) if is_random_split else []),
        *find_similar_labels(Counter(row.label for row in kept)),
        *_check_augmented_names(kept),
        *_check_mask_names(kept),
        *_check_balance(kept),
        *_check_sizes(kept),
    ]


def check_levels(
    rows: Sequence[ManifestRow], levels: Mapping[int, int], *, bits: int = ALL_BITS
) -> list[str]:
    """Return a warning where files of 16-bit levels use the lowest of them only: their pictures are dark.

    Args:
        rows: The version's rows, split.
        levels: The highest level of each file of 16-bit levels, by position.
        bits: How many bits are used, as `dataset.bits` says.
    """
    deep = [row for row in rows if row.split is not None and row.position in levels]
    if bits < ALL_BITS:
        return _check_used_levels([levels[row.position] for row in deep], bits)
    dark = [row for row in deep if levels[row.position].bit_length() <= DARK_BITS]
    if not dark or len(dark) <= len(deep) / 2:
        return []
    highest = max(levels[row.position] for row in dark)
    counts = Counter(row.label for row in dark)
    classes = ", ".join(f"{label} ({count})" for label, count in sorted(counts.items()))
    used = next(bits for bits in USED_BITS if highest.bit_length() <= bits)
    return [
        f"dark: the levels of {len(dark)} of {len(deep)} files with 16 bits end at {highest} of 65535, so "
        f"their pictures are nearly black: {classes}. They look like {used} bits: write "
        f"`dataset.bits: {used}`, which training and predictions of gray files keep to, or multiply the "
        f"levels by {2 ** (16 - used)}, in these files and in those that are sent to the model"
    ]


def _check_used_levels(highest: Sequence[int], bits: int) -> list[str]:
    """Return how files of 16 bits are read, and how many have levels beyond the bits that are used."""
    white = sum(level.bit_length() > bits for level in highest)
    dark = bool(highest) and max(highest).bit_length() <= bits - 2
    notes = [f"{white} of them have levels above {2**bits - 1}, which are white"] if white else []
    notes += [f"they end at {max(highest)}, so fewer bits would do: the pictures are dark"] if dark else []
    if not highest:
        return []
    text = "; ".join([f"bits: {len(highest)} files with 16 bits are read as {bits} bits", *notes])
    return [text]


def _check_labels(kept: Sequence[ManifestRow], grouping: Grouping) -> list[str]:
    labels = {row.id: row.label for row in kept}
    disputed = sum(
        labels[one] != labels[other]
        for one, other in grouping.near_pairs
        if one in labels and other in labels
    )
    return [f"near_duplicates: {disputed} pairs carry different labels"] if disputed else []


def _check_straddling(kept: Sequence[ManifestRow]) -> list[str]:
    sides: dict[str | None, set[str | None]] = {}
    for row in kept:
        sides.setdefault(row.group, set()).add(row.split)
    straddling = sum(each == {TRAIN, TEST} for each in sides.values())
    if not straddling:
        return []
    return [
        f"near_duplicates: {straddling} groups of near duplicates straddle the split, so the test is easier "
        "than it should be; `split: {method: hash}` keeps groups together"
    ]


def find_similar_labels(counts: Mapping[str, int]) -> list[str]:
    """Return a warning for each set of labels that are one word, written in several ways.

    Args:
        counts: The pictures of each label.
    """
    folded = {label: fold_label(_WHOLE.sub("", label)) for label in counts}
    alike: dict[str, list[str]] = {}
    for label in sorted(counts):
        alike.setdefault(singular(folded[label], {*folded.values()}), []).append(label)
    words_of = [
        " and ".join(f"{label} ({counts[label]})" for label in labels)
        for labels in alike.values()
        if len(labels) > 1
    ]
    if len(words_of) > FEW:
        words_of = ["; ".join(words_of)]
    return [
        f"similar_labels: {words} differ by case, spaces, accents or plural only; if they are one class, "
        "give them one name"
        for words in words_of
    ]


def _check_augmented_names(kept: Sequence[ManifestRow]) -> list[str]:
    """Return a hint where files are named as altered copies of others are; a name proves nothing."""
    names = [row.source_url.rpartition("/")[2] for row in kept]
    altered = sorted(name for name in names if AUGMENTED_NAME.search(name))
    if not altered:
        return []
    return [
        f"augmented_names: {len(altered)} of {len(names)} files are named like altered copies, such as "
        f"{', '.join(altered[:FEW])}; copies that are found keep to one side of the split, but give the "
        "originals only if you can: the others make the test easier than it should be"
    ]


def _check_mask_names(kept: Sequence[ManifestRow]) -> list[str]:
    """Return a warning where files are named as masks of others are: `7.png` and `7_mask.png`."""
    stems = {unquote(row.source_url).rpartition(".")[0] for row in kept}
    masks = sorted(
        stem
        for stem in stems
        if (match := MASK_NAME.match(stem.rpartition("/")[2]))
        and f"{stem.rpartition('/')[0]}/{match[1]}" in stems
    )
    if not masks:
        return []
    shown = ", ".join(stem.rpartition("/")[2] for stem in masks[:FEW])
    return [
        f"mask_names: {len(masks)} of {len(kept)} files are named like masks of others, such as {shown}; "
        "take them out, or they are trained as pictures"
    ]


def _check_balance(kept: Sequence[ManifestRow]) -> list[str]:
    counts = Counter(row.label for row in kept)
    small = {label: count for label, count in sorted(counts.items()) if count < SMALL_CLASS}
    warnings = [
        f"small_class: {label} has {count} pictures, fewer than {SMALL_CLASS}"
        for label, count in small.items()
    ]
    if len(small) > FEW:
        warnings = [
            f"small_class: {len(small)} classes have fewer than {SMALL_CLASS} pictures: {list_counts(small)}"
        ]
    (largest, most), (smallest, fewest) = counts.most_common()[0], counts.most_common()[-1]
    if most > IMBALANCE * fewest:
        warnings.append(
            f"class_imbalance: {largest} has {most} pictures and {smallest} {fewest}: more than "
            f"{IMBALANCE} times as many"
        )
    return warnings


def _check_sizes(kept: Sequence[ManifestRow]) -> list[str]:
    fingerprints = [row.fingerprint for row in kept if row.fingerprint is not None]
    sizes = np.array([(each.width or 1, each.height or 1) for each in fingerprints], float)
    warnings = []
    narrow = int((sizes.min(axis=1) / sizes.max(axis=1) < ODD_ASPECT_RATIO).sum())
    if narrow:
        warnings.append(
            f"odd_aspect_ratio: the shorter side of {narrow} pictures is less than {ODD_ASPECT_RATIO} "
            "of the longer"
        )
    scale = np.sqrt(sizes.prod(axis=1))
    low, high = np.quantile(scale, (0.25, 0.75))
    spread = ODD_SIZE_SPREADS * (high - low)
    factor = np.maximum(scale / np.median(scale), np.median(scale) / scale)
    odd = int((((scale < low - spread) | (scale > high + spread)) & (factor > ODD_SIZE_FACTOR)).sum())
    if odd and len(kept) >= MIN_FOR_SPREAD:
        warnings.append(f"odd_size: {odd} pictures are much larger or smaller than the others")
    return warnings
