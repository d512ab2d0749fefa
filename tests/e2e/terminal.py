"""Photographs what the commands print on a terminal of 80 columns, light and dark: `make terminals`.

Every command of `graft` is called with `--help` and with arguments, and so are the errors below. The stack
is one of its own, in a new directory, and is ended and removed.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field
from fcntl import ioctl
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI, TerminalTheme
from rich.text import Text

from pipeline.config import PROJECT_ROOT
from tests.docs.test_commands import COMMANDS
from tests.e2e.browser import start_chromium
from tests.e2e.conftest import GRAFT

COLUMNS, ROWS = 80, 50
COMMAND_SECONDS = 900
THEMES = {"light": DEFAULT_TERMINAL_THEME, "dark": DIMMED_MONOKAI}
STYLE = f"""
    body {{ margin: 12px; width: fit-content }}
    pre {{ width: {COLUMNS + 0.5}ch; white-space: pre-wrap !important; word-break: break-all }}
    pre {{ font: 15px/1.3 monospace !important }}
"""
# In this order: each needs what those before it have left behind.
INVOCATIONS = (
    "graft demo",
    "graft status",
    "python docs/examples/sample_pictures.py {work}/pictures brick grass",
    "graft dataset preview {work}/pictures",
    "graft init floors {work}/pictures",
    "graft doctor",
    "graft run floors",
    "graft run floors --param epochs=30",
    "graft run floors --if-changed",
    "graft run surfaces --no-wait",
    "graft compare floors --param epochs=10,20",
    "graft versions floors",
    "graft versions floors --wide",
    "graft lineage floors",
    "graft history floors",
    "graft predict floors {work}/pictures/brick/1.png {work}/pictures/grass/1.png {work}/none.png",
    "graft predict --all {work}/pictures/brick/1.png",
    "graft predict floors {work}/pictures --out {work}/results.csv",
    "graft features floors {work}/pictures/brick/1.png --out {work}/features.svg",
    "graft classify {work}/pictures/brick/1.png",
    "graft layers efficientnet_lite0",
    "graft export floors --out {work}/floors.zip",
    "graft open floors",
    "graft dataset show floors",
    "graft dataset add floors brick {work}/pictures/brick/2.png",
    "graft dataset diff floors",
    "graft dataset export floors {work}/floors.npz",
    "graft rollback floors --reason 'it takes wet grass for gravel'",
    "graft history floors",
    "graft logs {run}",
    "graft reproduce floors {version}",
    "graft dataset forget floors {picture}",
    "graft engine rebuild",
    "graft backup {work}/backup",
    "graft up",
    "graft down",
    "graft restore {work}/backup",
)
ERRORS = (
    "graft run flors",
    "graft run floors --param epoch=30",
    "graft run floors --param epochs=many",
    "graft rollback floors --to v_000000000000 --reason 'try it'",
    "graft predict floors {work}/none.png",
    "graft init 9lives {work}/pictures",
    "graft dataset preview {work}/nothing_here",
    "graft logs manual__2026-01-01T00:00:00+00:00",
    "graft run broken",
    "graft version floors",
    "graft doctor",
)
BROKEN = """\
name: broken
dataset:
  sources:
    - {type: folder, uri: /nowhere/pictures}
model:
  epcohs: 20
  learning_rate: fast
gate:
  absolute:
    accuracy: {minimum: 0.9}
"""


@dataclass(kw_only=True)
class Session:
    """A shell of 80 columns on a stack of its own.

    Args:
        work: A directory for what the commands write.
    """

    work: Path
    names: dict[str, str] = field(default_factory=dict)

    def environ(self) -> dict[str, str]:
        theirs = ("GRAFT_", "AIRFLOW", "COLUMNS", "NO_COLOR")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        path = f"{Path(GRAFT).parent}:{kept['PATH']}"
        home = str(self.work / "home")
        return kept | {"PATH": path, "TERM": "xterm-256color", "BROWSER": "true", "GRAFT_HOME": home}

    def run(self, command: str) -> str:
        """Run a command on a terminal and return what it wrote, with its colours."""
        words = [word.format(work=self.work, **self.names) for word in shlex.split(command)]
        ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        with subprocess.Popen(
            words, env=self.environ(), cwd=PROJECT_ROOT, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            text = b"".join(_read(ours)).decode(errors="replace")
            os.close(ours)
            process.wait(COMMAND_SECONDS)
        return text.replace(str(self.work), "/home/ann")

    def learn(self) -> None:
        """Find ids that later commands name."""
        run = self.run("graft history floors --json")
        self.names["run"] = re.findall(r'"run_id": "([^"]+)"', run)[0]
        self.names["version"] = re.findall(r'"version": "(v_\w+)"', run)[0]
        manifest = next((self.work / "home/buckets/graft/datasets/floors").rglob("manifest.jsonl"))
        self.names["picture"] = re.findall(r'"([0-9a-f]{64})"', manifest.read_text())[0]


def _read(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            return
        if not chunk:
            return
        yield chunk


def settle_screen(text: str) -> str:
    """Return what is left on the screen after tables have been drawn over each other."""
    lines, place = [""], 0
    for part in re.split(r"(\n|\r|\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh])", text):
        if part == "\n":
            place += 1
            lines.extend([""] * (place + 1 - len(lines)))
        elif match := re.fullmatch(r"\x1b\[(\d*)A", part):
            place = max(0, place - int(match[1] or 1))
        elif part == "\x1b[2K":
            lines[place] = ""
        elif part and part != "\r" and not part.startswith("\x1b[?25"):
            lines[place] += part
    return "\n".join(lines)


def show_screen(command: str, text: str, theme: TerminalTheme) -> str:
    """Return a page of a terminal: lines that are too long break where a terminal breaks them."""
    console = Console(record=True, width=400, file=StringIO(), force_terminal=True)
    console.print(Text("$ ", "bold green") + Text(command), soft_wrap=True)
    console.print(Text.from_ansi(settle_screen(text)), soft_wrap=True)
    page = console.export_html(theme=theme, inline_styles=True)
    return page.replace("</head>", f"<style>{STYLE}</style></head>")


def photograph(browser: Browser, folder: Path, name: str, command: str, text: str) -> None:
    for mode, theme in THEMES.items():
        page = browser.new_page(viewport={"width": 780, "height": 200})
        page.set_content(show_screen(command, text, theme))
        (folder / mode).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / mode / f"{name}.png", full_page=True)
        page.close()


def main(folder: Path) -> None:
    """Photograph every command and the errors into a folder, in light and dark.

    Args:
        folder: Where; the text of each is beside the picture.
    """
    with TemporaryDirectory(prefix="graft-terminal-") as work, start_chromium() as browser:
        session = Session(work=Path(work))
        try:
            for name, command in _commands(session):
                text = session.run(command)
                photograph(browser, folder, name, command.format(work="~", **session.names), text)
                (folder / f"{name}.txt").write_text(text)
        finally:
            session.run("graft down")


def _commands(session: Session) -> Iterator[tuple[str, str]]:
    yield "help", "graft --help"
    for command in COMMANDS:
        yield f"help-{command.removeprefix('graft ').replace(' ', '-')}", f"{command} --help"
    for number, command in enumerate(INVOCATIONS, 1):
        if command.startswith("graft logs"):
            session.learn()
        if command == "graft down":
            (session.work / "home" / "classifiers" / "broken.yaml").write_text(BROKEN)
            for index, wrong in enumerate(ERRORS, 1):
                yield f"error-{index:02}", wrong
            (session.work / "home" / "classifiers" / "broken.yaml").unlink()
        words = command.split(" {")[0].split(" -")[0].removeprefix("graft ")
        yield f"run-{number:02}-{re.sub(r'[^a-z]+', '-', words)}", command


if __name__ == "__main__":
    main(Path(sys.argv[1]))
