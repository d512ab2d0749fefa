"""What every Python program needs of a machine: the system's libraries, an interpreter, devices, our code."""

from __future__ import annotations

import contextlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import pipeline

LIBRARIES = (
    *("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/opt", "/nix/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/alternatives"),
    *("/etc/localtime", "/etc/timezone", "/etc/locale.alias", "/etc/fonts"),
    *("/proc", "/sys/devices/system", "/sys/fs/cgroup"),
)
NETWORK = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/etc/services", "/etc/protocols", "/etc/networks", "/etc/ssl", "/etc/pki", "/etc/ca-certificates"),
)
# Names of users, and of the distribution, which pip asks for and does not expect to be refused.
NAMES = (
    *("/etc/passwd", "/etc/group", "/etc/mime.types", "/etc/os-release", "/etc/lsb-release"),
    *("/etc/debian_version", "/etc/redhat-release", "/etc/fedora-release", "/etc/centos-release"),
    *("/etc/alpine-release", "/etc/arch-release", "/etc/SuSE-release", "/etc/system-release"),
)
PLAIN_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
ACCELERATORS = ("nvidia*", "dri", "kfd")


def interpreter() -> tuple[str, ...]:
    """Return the directories of this Python and of the packages installed for it."""
    paths = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve())}
    paths |= {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    if site.ENABLE_USER_SITE:
        paths.add(site.getusersitepackages())
    # Of another environment, where a `.pth` file of this one adds it.
    paths |= {path for path in sys.path if Path(path).name == "site-packages"}
    paths.add(str(Path(pipeline.__file__).resolve().parent))
    return tuple(sorted(paths))


def around(paths: Iterable[str], private: Iterable[Path]) -> tuple[str, ...]:
    """Return paths that may be read, without private directories that lie in them.

    Landlock cannot take back a part of what it allows, so a directory that holds a private one is replaced
    by what else is in it: a `GRAFT_HOME` below /opt is as private as one elsewhere.
    """
    allowed = [str(path) for path in paths]
    for place in (path.resolve() for path in private):
        allowed = [each for path in allowed for each in _around(Path(path), place)]
    return tuple(allowed)


def _around(path: Path, private: Path) -> list[str]:
    if not private.is_relative_to(path.resolve()):
        return [str(path)]
    if path.resolve() == private or not os.access(path, os.R_OK):
        return []
    return [each for child in sorted(path.resolve().iterdir()) for each in _around(child, private)]


def devices() -> tuple[str, ...]:
    """Return the device files that programs use: the harmless ones and accelerators."""
    accelerators = (str(path) for pattern in ACCELERATORS for path in Path("/dev").glob(pattern))
    return (*PLAIN_DEVICES, *sorted(accelerators))


def library_paths(environ: dict[str, str]) -> tuple[str, ...]:
    """Return the directories of `LD_LIBRARY_PATH`."""
    return existing(environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))


def existing(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the absolute paths among these that exist."""
    return tuple(path for path in paths if os.path.isabs(path) and os.path.exists(path))


def source_directory(state: Path) -> Path:
    """Return a directory for `PYTHONPATH` that holds `pipeline` alone: a link to the code that runs.

    Python lists each directory of its path, and the one that `pipeline` lies in may hold `GRAFT_HOME` too.

    Args:
        state: `$GRAFT_HOME/engine`, or another directory of the engine's.
    """
    package = Path(pipeline.__file__).resolve().parent
    directory = state / "source"
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / "pipeline"
    if not link.is_symlink() or link.readlink() != package:
        partial = directory / f".pipeline.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        partial.symlink_to(package)
        partial.replace(link)
    return directory
