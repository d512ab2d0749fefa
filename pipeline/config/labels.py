"""Labels as text: one form for equal ones, and what makes two of them suspiciously alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from pipeline.types import JsonValue


def normalize_label(text: str) -> str:
    """Return a label in the Unicode form NFC, without spaces around it: macOS decomposes file names."""
    return unicodedata.normalize("NFC", text).strip()


def read_label(value: JsonValue) -> JsonValue:
    """Return a label of a YAML as text; a number is taken as it is written in decimal.

    Raises:
        ValueError: for what YAML reads as true or false, and for fractions, whose text is not certain.
    """
    if isinstance(value, bool):
        raise ValueError(
            "YAML reads yes, no, on, off, true and false as truth values; write the label in quotes, such "
            'as "yes"'
        )
    if isinstance(value, float):
        raise ValueError(f'a label is text; write it in quotes, such as "{value}"')
    if isinstance(value, int):
        return str(value)
    return normalize_label(value) if isinstance(value, str) else value


def check_pattern(pattern: str) -> str:
    """Return a `label_pattern` as it is.

    Raises:
        ValueError: if it is no regular expression with a group.
    """
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    if not groups:
        raise ValueError(f"{pattern!r} has no group; put what is the class into brackets, as in '^(.+)_'")
    return pattern


def fold_label(label: str) -> str:
    """Return what is left of a label without case, accents, spaces and punctuation; never empty."""
    parts = unicodedata.normalize("NFKD", label.casefold())
    return "".join(character for character in parts if character.isalnum()) or label


def fold_spelling(label: str) -> str:
    """Return a label without case, accents, and what is put between words; other signs stay."""
    parts = unicodedata.normalize("NFKD", label.casefold())
    text = "".join(character for character in parts if not unicodedata.combining(character))
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)|_", "", text) or label


def singular(word: str, words: Collection[str]) -> str:
    """Return another of the words of which this one is the plural, else the word itself."""
    stems = (word.removesuffix(ending) for ending in ("s", "es") if word.endswith(ending))
    return next((stem for stem in stems if stem in words), word)
