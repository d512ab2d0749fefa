"""Somebody who follows a page of the documentation literally: its blocks in order, in one shell."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a page.

    Args:
        language: What the fence names; empty for cells of a notebook and for what a program prints.
        text: What is in it.
        section: The heading above it.
    """

    language: str
    text: str
    section: str

    @property
    def is_cell(self) -> bool:
        """Return True for a cell of a notebook."""
        return not self.language and "%" in self.text.splitlines()[0]


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    for section in re.split(r"^(?=## )", page.read_text(), flags=re.M):
        heading = section.splitlines()[0].lstrip("# ")
        for language, text in BLOCK.findall(section):
            yield Block(language=language, text=text, section=heading)


class Reader:
    """A shell that keeps its variables from block to block; a command that fails is an error.

    Args:
        place: The directory that it begins in.
        environ: Its environment.
    """

    def __init__(self, place: Path, environ: Mapping[str, str]) -> None:
        self.written: list[str] = []
        self._place = place
        self._file = place / ".block.sh"
        self._shell = subprocess.Popen(
            ["bash", "-euo", "pipefail"],
            cwd=place,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._shell.kill()
        self._shell.communicate()

    def type(self, commands: str) -> str:
        """Run commands and return what they printed.

        Raises:
            AssertionError: if one of them failed; with everything that was printed so far.
        """
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._file.write_text(commands)
        self._shell.stdin.write(f"source {self._file} </dev/null\necho; echo the block has ended\n")
        self._shell.stdin.flush()
        lines = []
        for line in self._shell.stdout:
            if line == "the block has ended\n":
                self.written.append("".join(lines))
                return self.written[-1]
            lines.append(line)
        raise AssertionError(f"{commands}\nfailed:\n{''.join([*self.written, *lines])}")


def must_find(words: tuple[str, ...], text: str) -> None:
    """Make sure that words are in a text in this order."""
    place = 0
    for each in words:
        place = text.find(each, place)
        assert place >= 0, f"{each!r} is missing in: {text}"
