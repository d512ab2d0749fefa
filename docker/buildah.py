"""Buildah with a storage of its own, for `images.py`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ImageError(Exception):
    """An image cannot be built, or holds what it must not."""


class Buildah:
    """The program, with a storage of its own.

    Layers are shared by the driver `overlay`. Where the kernel or the file system refuses that, each is a
    whole copy (`vfs`), which needs five times the space. The variable STORAGE_DRIVER decides otherwise.

    Args:
        storage: Directory of images, containers and temporary files.
    """

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.environment = os.environ | {"TMPDIR": str(storage / "tmp"), "BUILDAH_ISOLATION": "chroot"}
        (storage / "tmp").mkdir(parents=True, exist_ok=True)
        self.options = ("--root", str(storage / "root"), "--runroot", str(storage / "run"))
        self.driver = os.environ.get("STORAGE_DRIVER") or self._driver()

    def _driver(self) -> str:
        # A storage keeps the driver that it was made with.
        for name in ("overlay", "vfs"):
            if (self.storage / "root" / f"{name}-images").is_dir():
                return name
        command = ("buildah", *self.options, "--storage-driver", "overlay", "info")
        run = subprocess.run(command, env=self.environment, capture_output=True, check=False)
        return "vfs" if run.returncode else "overlay"

    def command(self, *words: str) -> list[str]:
        """Return the whole command."""
        return ["buildah", *self.options, "--storage-driver", self.driver, *words]

    def run(self, *words: str) -> None:
        """Run it; what it prints is shown.

        Raises:
            ImageError: if it fails.
        """
        code = subprocess.run(self.command(*words), env=self.environment, check=False).returncode
        if code:
            raise ImageError(f"`buildah {words[0]}` ended with exit code {code}; its messages are above.")

    def ask(self, *words: str) -> str:
        """Run it and return what it prints.

        Raises:
            ImageError: if it fails.
        """
        run = subprocess.run(
            self.command(*words), env=self.environment, check=False, stdout=subprocess.PIPE, text=True
        )
        if run.returncode:
            raise ImageError(f"`buildah {words[0]}` ended with exit code {run.returncode}.")
        return run.stdout.strip()

    @contextmanager
    def mounted(self, image: str) -> Iterator[tuple[str, Path]]:
        """Make a container of an image; yield its id and its files, and remove it in the end."""
        container = self.ask("from", "--pull-never", image)
        try:
            yield container, Path(self.ask("mount", container))
        finally:
            self.ask("rm", container)
