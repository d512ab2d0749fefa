"""A base for images made of Debian's packages, for `images.py` where no registry of images can be reached."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from buildah import ImageError

RELEASE = "bookworm"  # the last with Python 3.11
PACKAGES = ("ca-certificates", "python3.11-venv")
SETTINGS = "tmp/apt.conf"
SOURCES = "etc/apt/sources.list"
NO_SOURCES = f"# To install packages, name a mirror: deb ADDRESS {RELEASE} main\n"


def bootstrap(root: Path) -> None:
    """Install Debian with Python and the present security updates.

    DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR name mirrors; by default debootstrap's own, and the one
    beside it. Neither they nor this machine's proxies, name servers and settings of apt are kept.

    Args:
        root: An empty directory.

    Raises:
        ImageError: if a package cannot be installed; the message ends with what the program printed.
    """
    named = [os.environ["DEBIAN_MIRROR"]] if os.environ.get("DEBIAN_MIRROR") else []
    call("debootstrap", "--variant=minbase", "--include=ca-certificates", RELEASE, str(root), *named)
    mirror = (root / SOURCES).read_text().split()[1]  # `deb ADDRESS RELEASE main`, as debootstrap writes it
    security = os.environ.get("DEBIAN_SECURITY_MIRROR") or f"{mirror}-security"
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(
        "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n"
        "path-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n"
    )
    (root / SOURCES).write_text(
        f"deb {mirror} {RELEASE} main\ndeb {mirror} {RELEASE}-updates main\n"
        f"deb {security} {RELEASE}-security main\n"
    )
    (root / SETTINGS).write_text(_apt_settings())
    apt = ("env", "DEBIAN_FRONTEND=noninteractive", f"APT_CONFIG=/{SETTINGS}", "chroot", str(root))
    apt += ("apt-get", "-qq", "-o", "Dpkg::Options::=--force-unsafe-io")
    call(*apt, "update")
    call(*apt, "dist-upgrade", "--yes")
    call(*apt, "install", "--yes", "--no-install-recommends", *PACKAGES)
    call(*apt, "clean")
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3.11")
    _forget_this_machine(root)


def _apt_settings() -> str:
    if shutil.which("apt-config") is None:
        return ""
    lines = subprocess.check_output(["apt-config", "dump", "Acquire"], text=True).splitlines()
    return "".join(f"{line}\n" for line in lines if '""' not in line)


def _forget_this_machine(root: Path) -> None:
    (root / SETTINGS).unlink()
    (root / SOURCES).write_text(NO_SOURCES)
    for name in ("resolv.conf", "hostname"):  # a container gets its own
        (root / "etc" / name).write_text("")
    shutil.rmtree(root / "debootstrap", ignore_errors=True)
    for name in ("var/lib/apt/lists", "var/log", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)


def call(*words: str) -> None:
    """Run a program.

    Raises:
        ImageError: if it fails; the message ends with what it printed.
    """
    run = subprocess.run(words, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise ImageError(
            f"`{' '.join(words[:8])}` ended with exit code {run.returncode}:\n{run.stdout[-2000:]}"
        )
