"""Names of archive members that do not declare their encoding: which code page gives words.

General detectors of encodings need more text than a few folder names have. The candidates are therefore
compared by the characters that they give: the national standards of East Asia list common characters first,
and a name in the wrong code page has box-drawing characters, or capitals inside words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeAlias

from pipeline.errors import BadArchive

MAX_PARTS = 2_000
CLOSE = 0.35  # of a character's cost: a second reading that is nearly as good is named
EXAMPLES = 3
CERTAIN_UTF8 = 5  # characters: other text is valid UTF-8 for a few characters at most
# What systems write into a zip without saying so, in the order that decides between equals.
SINGLE_BYTE = ("cp437", "cp850", "cp866", "cp852", "cp737", "cp1252", "cp1251", "cp1253")
# The rows of each standard that have its common characters, by their first byte, and what these cost.
COMMON_ROWS: Mapping[str, tuple[float, Sequence[range]]] = {
    "gbk": (0.4, (range(0xB0, 0xD8),)),
    "cp932": (0.0, (range(0x82, 0x84), range(0x88, 0x99))),
    "big5": (0.45, (range(0xA4, 0xC7),)),
    "cp949": (0.6, (range(0xB0, 0xC9),)),
}
_RARE, _NO_LETTER, _ODD_CASE, _ANSI, _MIXED = 1.0, 3.0, 1.5, 0.15, 1.0
_USUAL_LETTERS = frozenset("äöüßéèêëàâçñáíóúîïôûåøæÄÖÜÉÅØÆ")
_LETTERS = frozenset("ãìòõùýœąćęłńśźżčďěňřšťůžőűÀÁÂÃÇÈÊËÌÍÎÏÑÒÓÔÕÙÚÛÝŒĄĆĘŁŃŚŹŻČĎĚŇŘŠŤŮŽŐŰ")
_GREEK = frozenset("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋ")
_USUAL_HANGUL = frozenset(
    "이가나다라마바사아자고기도로리미비시지하구부수우주무보소오조노모호스트인정상전장제대강과관국동물불산"
    "생선성신실안양어여연영용원유은의일임재중진차철체치크타파표품한해형화학회개견량병류면백홍흑색등급별"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameEncoding:
    """How undeclared names are read.

    Args:
        encoding: A codec of Python.
        examples: Folder and file names as they are read.
        others: What other code pages would make of the first, where these are nearly as likely.
    """

    encoding: str
    examples: Sequence[str]
    others: Mapping[str, str]

    def describe(self, origin: str) -> str:
        """Return what a reader of the dataset card should know."""
        others = ", ".join(f"{name} ({encoding})" for encoding, name in self.others.items())
        doubt = f"; it might be {others}" if others else ""
        return (
            f"encoding: {origin} does not tell the encoding of its names; they were read as {self.encoding}: "
            f"{', '.join(self.examples)}{doubt}. If that is wrong, name the right one: `encoding: ...`"
        )


def guess_encoding(names: Collection[bytes]) -> NameEncoding | None:
    """Return the encoding whose reading of the names looks most like words; None if there are none.

    Args:
        names: The names of members with bytes beyond ASCII.
    """
    parts = list(dict.fromkeys(part for name in names for part in name.split(b"/") if not part.isascii()))
    parts = parts[:MAX_PARTS]
    if not parts:
        return None
    costs = {
        encoding: cost
        for encoding, find_cost in _CANDIDATES.items()
        if (cost := find_cost(parts)) is not None
    }
    best = min(costs, key=costs.__getitem__)
    texts = [part.decode(best) for part in parts[:EXAMPLES]]
    close = {other: parts[0].decode(other) for other, cost in costs.items() if cost < costs[best] + CLOSE}
    others = {other: text for other, text in close.items() if text != texts[0]}
    return NameEncoding(encoding=best, examples=texts, others=others)


def cost_of(encoding: str, parts: Sequence[bytes]) -> float | None:
    """Return how little the reading of words in an encoding looks like words; None if it has none of them."""
    if encoding in COMMON_ROWS:
        return _east_asian_cost(encoding, parts)
    return _single_byte_cost(encoding, parts)


def decode_name(name: bytes, encoding: str, origin: str) -> str:
    """Return a name in an encoding.

    Raises:
        BadArchive: if the name is none in this encoding.
    """
    try:
        return name.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise BadArchive(
            f"{origin}: the name {name[:80]!r} cannot be read as {encoding}: {error}. Correct `encoding`, or "
            "leave it out so that it is guessed.",
            uri=origin,
        ) from error


def _decode(parts: Sequence[bytes], encoding: str) -> list[str] | None:
    try:
        return [part.decode(encoding) for part in parts]
    except UnicodeDecodeError:
        return None


def _utf8_cost(parts: Sequence[bytes]) -> float | None:
    texts = _decode(parts, "utf-8")
    if texts is None:
        return None
    texts = [unicodedata.normalize("NFC", text) for text in texts]  # macOS decomposes names
    letters = [character for text in texts for character in text if not character.isascii()]
    if not letters:
        return -_RARE
    if len(letters) >= CERTAIN_UTF8 or any(ord(letter) >= 0x800 for letter in letters):
        return -_RARE
    return _mean_cost(texts, _letter_cost)


def _single_byte_cost(encoding: str, parts: Sequence[bytes]) -> float | None:
    texts = _decode(parts, encoding)
    if texts is None:
        return None
    return _mean_cost(texts, _letter_cost) + (_ANSI if encoding.startswith("cp125") else 0.0)


def _east_asian_cost(encoding: str, parts: Sequence[bytes]) -> float | None:
    texts = _decode(parts, encoding)
    if texts is None:
        return None
    return _mean_cost(texts, partial(_east_asian_letter_cost, encoding=encoding))


def _mean_cost(texts: Sequence[str], find_cost: Callable[[str], float]) -> float:
    """Return the mean cost of a character beyond ASCII; unlikely neighbours cost too."""
    costs = [find_cost(character) for text in texts for character in text if not character.isascii()]
    unlikely = sum(_cost_of_neighbours(text) for text in texts)
    return (sum(costs) + unlikely) / len(costs)


def _cost_of_neighbours(text: str) -> float:
    """Return what it costs that a word has letters of two scripts, a capital inside, or a backslash."""
    pairs = [pair for pair in pairwise(text) if not (pair[0] + pair[1]).isascii()]
    words = [(first, second) for first, second in pairs if first.isalpha() and second.isalpha()]
    capitals = 0 if text.isupper() else sum(second.isupper() for _, second in words)
    mixed = sum({"LATIN"} < {_script(first), _script(second)} for first, second in words)
    backslashes = sum("\\" in pair for pair in pairs)  # the second byte of some East Asian characters
    return _ODD_CASE * capitals + _MIXED * (mixed + backslashes)


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _letter_cost(letter: str) -> float:
    if letter in _USUAL_LETTERS:
        return 0.1
    if letter in _LETTERS:
        return 0.3
    if _script(letter) == "CYRILLIC":
        return 0.0 if "а" <= letter.casefold() <= "я" or letter in "ёЁ" else _RARE
    if _script(letter) == "GREEK":
        return 0.0 if letter.casefold() in _GREEK else _RARE
    return 1.5 * _RARE if letter.isalpha() else _NO_LETTER


def _east_asian_letter_cost(letter: str, encoding: str) -> float:
    code = letter.encode(encoding)
    if len(code) == 1 or not letter.isalpha():  # half-width letters of Japanese are single bytes
        return 2 * _RARE
    # The first edition of each standard has second bytes from 0xA1; lower ones are later additions.
    if code[1] < 0xA1 and encoding in ("gbk", "cp949"):
        return 2 * _RARE
    if letter in _USUAL_HANGUL:
        return 0.0
    cost, rows = COMMON_ROWS[encoding]
    return cost if any(code[0] in row for row in rows) else _RARE


_Cost: TypeAlias = Callable[[Sequence[bytes]], "float | None"]
_CANDIDATES: dict[str, _Cost] = {
    "utf-8": _utf8_cost,
    **{encoding: partial(_single_byte_cost, encoding) for encoding in SINGLE_BYTE},
    **{encoding: partial(_east_asian_cost, encoding) for encoding in COMMON_ROWS},
}
