"""Which encoding a list is written in."""

from __future__ import annotations

import codecs
import re
from typing import BinaryIO

from pipeline.datasets.sources.member_names import cost_of

PIECE_BYTES = 2**20
SAMPLE_BYTES = 2**16
# What programs save tables in, beside UTF-8; Windows-1252 is read unless another is clearly better.
SCRIPTS = ("cp1251", "cp1253")  # of words without letters of ASCII
EAST_ASIAN = ("gbk", "cp932", "big5", "cp949")
CLEARLY = 0.35  # of a character's cost
_WORD = re.compile(rb"[A-Za-z\x80-\xff]+")
_BARE = 1.0  # added where words have no letter of ASCII at all, as those of other scripts
_ODD = re.compile(r"[a-zß-öø-ÿ][A-ZÀ-ÖØ-ÞŠŽŒ]")  # a capital inside a word
_SEPARATORS = re.compile(rb'[,;\t"\r\n/]+')  # none is part of a character of two bytes
NAMES = {"cp1252": "Windows-1252"}


def find_encoding(file: BinaryIO, origin: str) -> tuple[str, list[str]]:
    """Return the encoding of a list, and a statement if it was guessed; the file is at its start then.

    A byte order mark tells it, else UTF-8 if it fits, else what gives words.
    """
    start = file.read(SAMPLE_BYTES)
    file.seek(0)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", []
    if unmarked := _find_unmarked(start):
        return unmarked, []
    wrong = _find_misfit(file, "utf-8-sig")
    if wrong is None:
        return "utf-8-sig", []
    file.seek(max(0, wrong - 40))
    sample = file.read(SAMPLE_BYTES)
    encoding = _guess(sample)
    if encoding != "cp1252" and _find_misfit(file, encoding) is not None:
        encoding = "cp1252"
    lines = sample[:80].decode(encoding, "replace").splitlines()
    shown = next((line for line in lines if not line.isascii()), "")
    name = NAMES.get(encoding, encoding)
    file.seek(0)
    statement = f"encoding: {origin} is not UTF-8; it was read as {name}, as in {shown.strip()!r}"
    return encoding, [statement]


def _find_unmarked(start: bytes) -> str | None:
    """Return which UTF-16 a text without a byte order mark is in; None if it is not."""
    pairs = len(start) // 2
    if pairs < 4:
        return None
    low, high = start[: 2 * pairs : 2].count(0), start[1 : 2 * pairs : 2].count(0)
    if max(low, high) < 0.5 * pairs or min(low, high):
        return None
    return "utf-16-le" if high else "utf-16-be"


def _find_misfit(file: BinaryIO, encoding: str) -> int | None:
    """Return where a file is not in an encoding; None if it is throughout. The file is at its start then."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)()
    position = 0
    try:
        while piece := file.read(PIECE_BYTES):
            decoder.decode(piece)
            position += len(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return position + error.start
    finally:
        file.seek(0)
    return None


def _guess(sample: bytes) -> str:
    """Return the encoding whose reading of the words looks most like words; Windows-1252 if in doubt."""
    pieces = _SEPARATORS.split(sample)
    whole = pieces[1:-1] if len(pieces) > 4 else pieces
    parts = [part for part in dict.fromkeys(whole) if not part.isascii()]
    words = [word for part in parts for word in _WORD.findall(part) if len(word) > 1 and not word.isascii()]
    if not words:
        return "cp1252"
    is_bare = sum(min(word) > 0x7F for word in words) > len(words) / 2
    likely = (*(SCRIPTS if is_bare else ()), *EAST_ASIAN)
    costs = {encoding: cost for encoding in likely if (cost := cost_of(encoding, parts)) is not None}
    best = min(costs, key=costs.__getitem__, default="cp1252")
    usual = cost_of("cp1252", parts)
    if usual is None:  # bytes that Windows-1252 does not have
        return best
    if _is_of_a_mac(parts):
        return "mac_roman"
    usual += _BARE if is_bare else 0.0
    return best if best in costs and costs[best] + CLEARLY < usual else "cp1252"


def _is_of_a_mac(parts: list[bytes]) -> bool:
    """Return True if words have capitals inside as Windows-1252, and none as Mac Roman."""
    odd = sum(bool(_ODD.search(part.decode("cp1252", "replace"))) for part in parts)
    return odd > len(parts) / 2 and not any(_ODD.search(part.decode("mac_roman")) for part in parts)
