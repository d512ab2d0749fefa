"""Makes the pictures of the documentation from the pages of a stack that runs: `make screenshots`.

The stack of `GRAFT_HOME` must have run the demo. One more run of `surfaces` is started, and its page is
photographed until it has ended.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from pipeline.config import Settings
from pipeline.datasets.sources.sample import SampleSource
from tests.e2e.browser import Visitor, start_chromium
from tests.e2e.conftest import Stack

NAME = "surfaces"
WIDTH = 960
COLOURS = 64
STILL_SECONDS = 2.5
RUN_SECONDS = 600


def main(folder: Path) -> None:
    """Write the pictures into a folder, and an animation of them: a run, its report, and what follows.

    Args:
        folder: Where; `docs/images`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home = Settings().home
    stack = Stack(home=home, classifiers=home, gallery_port=0)
    with start_chromium() as chromium:
        visitor = Visitor(chromium, stack, "admin")
        frames = photograph_run(visitor, stack)
        pages = {
            "report": photograph(visitor, f"/runs/{NAME}/{frames.run_id}"),
            "versions": photograph(visitor, f"/classifiers/{NAME}"),
            "pictures": photograph(visitor, f"/classifiers/{NAME}/pictures"),
            "try": photograph_answer(visitor),
            "classifiers": photograph(visitor, "/"),
        }
        visitor.close()
    for name, picture in pages.items():
        picture.save(folder / f"{name}.png", optimize=True)
    animate([*frames.pictures, *pages.values()], folder / "run.gif")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFrames:
    """A run, and its page while it worked."""

    run_id: str
    pictures: list[Image.Image]


def photograph_run(visitor: Visitor, stack: Stack) -> RunFrames:
    """Start a run, and photograph its page until its report is there."""
    run_id, pictures = visitor.trigger(NAME), []
    api, deadline = stack.airflow(), time.monotonic() + RUN_SECONDS
    while api.run_state(NAME, run_id) not in ("success", "failed") and time.monotonic() < deadline:
        visitor.visit(f"/runs/{NAME}/{run_id}")
        if visitor.page.locator("#verdict").count() == 0:
            pictures.append(shrink(visitor.page.screenshot()))
        time.sleep(1)
    return RunFrames(run_id=run_id, pictures=pictures)


def photograph(visitor: Visitor, path: str) -> Image.Image:
    visitor.visit(path)
    visitor.page.wait_for_load_state("networkidle")
    return shrink(visitor.page.screenshot())


def photograph_answer(visitor: Visitor) -> Image.Image:
    """Photograph what the page answers about one picture of the sample."""
    [entry, *_] = list(SampleSource(classes=["brick"]).entries(0, 1))
    assert entry.read is not None
    with TemporaryDirectory() as directory:
        file = Path(directory, "brick.png")
        file.write_bytes(entry.read())
        page = visitor.visit(f"/classifiers/{NAME}/try")
        page.set_input_files("input[type=file]", str(file))
        page.wait_for_selector("#answer")
        page.wait_for_load_state("networkidle")
        return shrink(page.screenshot())


def shrink(png: bytes) -> Image.Image:
    """Return a screenshot at the width of the documentation, in few colours."""
    picture = Image.open(BytesIO(png)).convert("RGB")
    height = round(picture.height * WIDTH / picture.width)
    return picture.resize((WIDTH, height), Image.Resampling.LANCZOS).quantize(COLOURS)


def animate(frames: list[Image.Image], file: Path) -> None:
    """Write a GIF in which equal frames are one, the later ones shown longer."""
    different = [frame for frame, before in zip(frames, [None, *frames], strict=False) if frame != before]
    durations = [1000 if index < len(frames) - 5 else STILL_SECONDS * 1000 for index in range(len(different))]
    different[0].save(
        file, save_all=True, append_images=different[1:], duration=durations, loop=0, optimize=True
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
