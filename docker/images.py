"""Build and check the images without Docker: `make images`. Needs buildah, and root.

The base is the one that the Dockerfile names by its digest. Where no registry of images can be reached it is
made of Debian's packages, of the last release that has Python 3.11. Everything is stored in one directory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("engine", "airflow", "team")
FIRST_STAGE = "FROM base AS engine"
BASE, COMMON = "localhost/graft-debian", "localhost/graft-common"
RELEASE = "bookworm"  # the last with Python 3.11
PACKAGES = ("ca-certificates", "python3.11-venv")
PULL_SECONDS = 300
SITE_PACKAGES = "opt/graft/.venv/lib/python3.11/site-packages"
# Where an installer keeps what it was told about a registry.
CONFIGURATION = (
    *("etc/pip.conf", "etc/xdg/pip", "root/.config", "root/.pip", "root/.netrc", "root/.cache"),
    *("etc/uv", "opt/graft/.venv/pip.conf", "opt/graft/uv.toml", "run/secrets/registry", "run/secrets/ca"),
)
REGISTRY_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX")


class ImageError(Exception):
    """An image cannot be built, or holds what it must not."""


class Buildah:
    """The program, with a storage of its own.

    Args:
        storage: Directory of images, containers and temporary files.
    """

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.environment = os.environ | {"TMPDIR": str(storage / "tmp"), "BUILDAH_ISOLATION": "chroot"}
        (storage / "tmp").mkdir(parents=True, exist_ok=True)
        self.options = ("--root", str(storage / "root"), "--runroot", str(storage / "run"))

    def command(self, *words: str) -> list[str]:
        """Return the whole command."""
        return ["buildah", *self.options, "--storage-driver", "vfs", *words]

    def run(self, *words: str, timeout: float | None = None) -> None:
        """Run it; what it prints is shown.

        Raises:
            ImageError: if it fails.
        """
        code = subprocess.run(
            self.command(*words), env=self.environment, timeout=timeout, check=False
        ).returncode
        if code:
            raise ImageError(f"`buildah {words[0]}` ended with exit code {code}; its messages are above.")

    def ask(self, *words: str) -> str:
        """Run it and return what it prints."""
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


def pinned_base() -> str:
    """Return the image that the Dockerfile begins with."""
    match = re.search(r"^FROM (\S+) AS base$", dockerfile(), re.M)
    if match is None:
        raise ImageError("docker/Dockerfile: expected `FROM IMAGE@DIGEST AS base`.")
    return match[1]


def dockerfile() -> str:
    """Return the text of the Dockerfile."""
    return (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def make_base(buildah: Buildah) -> str:
    """Return the name of the base: that of the Dockerfile if it can be pulled, else one made here."""
    pinned = "docker.io/library/" + pinned_base()
    if _can_pull(buildah, pinned):
        print(f"base: {pinned}", flush=True)
        return pinned
    print(f"base: Debian {RELEASE} by debootstrap, since no registry of images answers", flush=True)
    _need("debootstrap")
    container = buildah.ask("from", "scratch")
    try:
        root = Path(buildah.ask("mount", container))
        _bootstrap(root)
        buildah.ask("commit", container, BASE)
    finally:
        buildah.ask("rm", container)
    return BASE


def _can_pull(buildah: Buildah, image: str) -> bool:
    words = buildah.command("pull", "--quiet", image)
    try:
        run = subprocess.run(
            words, env=buildah.environment, capture_output=True, timeout=PULL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return run.returncode == 0


def _bootstrap(root: Path) -> None:
    mirror = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
    # Packages of Python come from the updates, which debootstrap does not read: apt installs them.
    _call("debootstrap", "--variant=minbase", "--include=ca-certificates", RELEASE, str(root), mirror)
    chroot = ("env", "DEBIAN_FRONTEND=noninteractive", "chroot", str(root), "apt-get", "-qq")
    _call(*chroot, "update")
    _call(*chroot, "install", "--yes", "--no-install-recommends", *PACKAGES)
    _call(*chroot, "clean")
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3.11")
    (root / "etc/apt/sources.list").unlink(missing_ok=True)  # the mirror of the machine that builds
    for directory in ("var/lib/apt/lists", "debootstrap", "var/log"):
        shutil.rmtree(root / directory, ignore_errors=True)
        if directory != "debootstrap":
            (root / directory).mkdir()


def build(buildah: Buildah, base: str, targets: tuple[str, ...]) -> None:
    """Build what all images have in common once, then each image on it."""
    with tempfile.TemporaryDirectory(dir=buildah.storage) as directory:
        registry = Path(directory) / "registry"
        registry.write_text(registry_settings(), encoding="utf-8")
        certificates = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT") or os.devnull
        secrets = (f"id=registry,src={registry}", f"id=ca,src={certificates}")
        options = ("--isolation", "chroot", "--pull-never", "--format", "docker")
        options += ("--secret", secrets[0], "--secret", secrets[1])
        text = dockerfile()
        buildah.run(
            *("bud", *options, "--from", base, "--target", "base", "--tag", COMMON),
            *("--file", str(ROOT / "docker" / "Dockerfile"), str(ROOT)),
        )
        rest = Path(directory) / "Dockerfile"
        rest.write_text(f"FROM {COMMON} AS base\n{FIRST_STAGE}{text.split(FIRST_STAGE)[1]}", encoding="utf-8")
        for target in targets:
            tag = f"localhost/graft-{target}"
            buildah.run("bud", *options, "--target", target, "--tag", tag, "--file", str(rest), str(ROOT))


def registry_settings() -> str:
    """Return what this machine's pip was told about registries, as lines of a shell."""
    values = {name: os.environ[name] for name in REGISTRY_VARIABLES if os.environ.get(name)}
    if "PIP_INDEX_URL" in values:
        values.setdefault("UV_DEFAULT_INDEX", values["PIP_INDEX_URL"])
    return "".join(f"{name}='{value}'\n" for name, value in values.items())


def check(root: Path, config: str) -> list[str]:
    """Return what an image must not hold: tools of tests, and what an installer was told.

    Args:
        root: The files of the image.
        config: Its configuration and history, as JSON.
    """
    unwanted = [f"{name}, a tool of tests" for name in sorted(test_tools() & installed(root))]
    left = [f"/{name}, of an installer" for name in CONFIGURATION if _has_text(root / name)]
    values = {os.environ[name] for name in REGISTRY_VARIABLES if os.environ.get(name)}
    told = [
        f"{name}: the address of a registry"
        for name in ("its configuration",)
        if any(v in config for v in values)
    ]
    return unwanted + left + told


def _has_text(path: Path) -> bool:
    if path.is_dir():
        return any(child.is_file() for child in path.rglob("*"))
    return path.is_file() and path.stat().st_size > 0


def test_tools() -> set[str]:
    """Return the packages that only requirements-dev.txt has, in their normal spelling."""
    dev, run, team = (_pins(f"requirements{name}.txt") for name in ("-dev", "", "-team"))
    return dev - run - team


def _pins(name: str) -> set[str]:
    return {_normal(pin) for pin in re.findall(r"^([\w.-]+)(?:\[.*\])?==", (ROOT / name).read_text(), re.M)}


def installed(root: Path) -> set[str]:
    """Return the names of the Python packages in an image."""
    return {_normal(path.name.split("-")[0]) for path in root.glob(f"{SITE_PACKAGES}/*.dist-info")}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def size(root: Path) -> int:
    """Return the bytes of an image's files."""
    return int(subprocess.check_output(["du", "-sxb", str(root)], text=True).split()[0])


def write_sbom(root: Path, target: str, tools: Path, directory: Path) -> list[Path]:
    """Write the lists of Python's and of Debian's packages in CycloneDX's format.

    Args:
        root: The files of the image.
        target: Its name.
        tools: Directory of the programs `cyclonedx-py` and `debsbom`.
        directory: Where the lists go.
    """
    python, debian = (directory / f"{target}.{kind}.cdx.json" for kind in ("python", "debian"))
    with tempfile.TemporaryDirectory() as scratch:
        # An environment whose only packages are those of the image: the image's own `python` is for a chroot.
        _call(sys.executable, "-m", "venv", "--without-pip", scratch)
        for site in Path(scratch).glob("lib/python3*/site-packages"):
            (site / "image.pth").write_text(f"{root / SITE_PACKAGES}\n", encoding="utf-8")
        _call(
            *(str(tools / "cyclonedx-py"), "environment", "--output-reproducible", "--of", "JSON"),
            *("-o", str(python), f"{scratch}/bin/python"),
        )
        stem = Path(scratch) / "debian"
        _call(
            *(str(tools / "debsbom"), "generate", "--root", str(root), "--sbom-type", "cdx"),
            *("--distro-name", f"graft-{target}", "--out", str(stem)),
        )
        shutil.copyfile(stem.with_suffix(".cdx.json"), debian)
    return [python, debian]


def _call(*words: str) -> None:
    run = subprocess.run(words, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise ImageError(
            f"`{' '.join(words[:6])}` ended with exit code {run.returncode}:\n{run.stdout[-2000:]}"
        )


def _need(program: str) -> None:
    if shutil.which(program) is None:
        raise ImageError(f"`{program}` is not installed. On Debian: apt-get install buildah debootstrap")


def _report(buildah: Buildah, target: str, measure: Callable[[Path], list[Path]]) -> list[str]:
    with buildah.mounted(f"localhost/graft-{target}") as (_, root):
        problems = check(root, buildah.ask("inspect", "--type", "image", f"localhost/graft-{target}"))
        packages = len(installed(root))
        names = ", ".join(os.path.relpath(path) for path in measure(root))
        print(f"graft-{target}: {size(root) / 1e6:,.0f} MB, {packages} Python packages; {names}", flush=True)
    return [f"graft-{target}: {problem}" for problem in problems]


def main() -> None:
    """Build, check, list and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", type=Path, required=True, help="directory of images and temporary files")
    parser.add_argument("--tools", type=Path, required=True, help="directory of cyclonedx-py and debsbom")
    parser.add_argument("--out", type=Path, required=True, help="directory of the lists of packages")
    parser.add_argument("targets", nargs="*", default=TARGETS)
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        _need("buildah")
        if os.geteuid():
            raise ImageError("buildah in a chroot needs root: sudo make images")
        buildah = Buildah(arguments.storage.absolute())
        targets = tuple(arguments.targets)
        build(buildah, make_base(buildah), targets)
        arguments.out.mkdir(parents=True, exist_ok=True)
        problems = []
        for target in targets:
            problems += _report(
                buildah,
                target,
                lambda root, name=target: write_sbom(root, name, arguments.tools, arguments.out),
            )
    except ImageError as error:
        sys.exit(str(error))
    print(json.dumps({"images": list(targets), "seconds": round(time.monotonic() - began)}))
    if problems:
        sys.exit("An image holds what it must not:\n" + "\n".join(problems))


if __name__ == "__main__":
    main()
