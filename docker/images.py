"""Build and check the images without Docker: `make images`. Needs buildah, and root.

The base is the one that the Dockerfile names by its digest. Where no registry of images can be reached it is
made of Debian's packages, of the last release that has Python 3.11. Everything is stored in one directory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from buildah import Buildah, ImageError
from debian_base import RELEASE, bootstrap
from image_contents import check, installed, size, write_sbom

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("engine", "airflow", "team")
FIRST_STAGE = "FROM base AS engine"
BASE, COMMON = "localhost/graft-debian", "localhost/graft-common"
REGISTRY_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OPTIONS = ("--isolation", "chroot", "--pull-never", "--format", "docker")
PULL_SECONDS = 300


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
        bootstrap(root)
        buildah.ask("config", "--env", f"PATH={PATH}", "--cmd", "bash", container)
        buildah.ask("commit", "--quiet", "--format", "docker", container, BASE)
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


def build(buildah: Buildah, base: str, targets: tuple[str, ...]) -> None:
    """Build what all images have in common once, then each image on it."""
    build_common(buildah, base)
    for target in targets:
        build_target(buildah, target)


def build_common(buildah: Buildah, base: str) -> None:
    """Build the first stage of the Dockerfile on a base."""
    with _secrets(buildah) as secrets:
        buildah.run(
            *("bud", *OPTIONS, *secrets, "--from", base, "--target", "base", "--tag", COMMON),
            *("--file", str(ROOT / "docker" / "Dockerfile"), str(ROOT)),
        )


def build_target(buildah: Buildah, target: str) -> None:
    """Build one image on what all have in common."""
    with _secrets(buildah) as secrets:
        rest = buildah.storage / "tmp" / "Dockerfile"
        rest.write_text(later_stages(), encoding="utf-8")
        words = ("bud", *OPTIONS, *secrets, "--target", target, "--tag", f"localhost/graft-{target}")
        buildah.run(*words, "--file", str(rest), str(ROOT))


def later_stages() -> str:
    """Return the Dockerfile without its first stage, on the image that is already built.

    A stage of its own for that image, with nothing but FROM, would make buildah keep a container of it.
    """
    text = FIRST_STAGE + dockerfile().split(FIRST_STAGE)[1]
    return text.replace("FROM base AS", f"FROM {COMMON} AS")


@contextmanager
def _secrets(buildah: Buildah) -> Iterator[tuple[str, ...]]:
    with tempfile.TemporaryDirectory(dir=buildah.storage) as directory:
        registry = Path(directory) / "registry"
        settings = registry_settings(pip_settings() | os.environ)
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in settings.items()]
        registry.write_text("".join(lines), encoding="utf-8")
        certificates = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT") or os.devnull
        yield ("--secret", f"id=registry,src={registry}", "--secret", f"id=ca,src={certificates}")


def pip_settings() -> dict[str, str]:
    """Return this machine's settings of pip, from its files and variables, by the names of the variables."""
    command = (sys.executable, "-m", "pip", "config", "list")
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    return read_pip_settings(run.stdout)


def read_pip_settings(listing: str) -> dict[str, str]:
    """Return what `pip config list` printed, by the names of pip's variables."""
    pairs = re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listing, re.M)
    return {f"PIP_{name.upper().replace('-', '_')}": value.replace(r"\n", " ") for name, value in pairs}


def registry_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Return what an installer in the image has to be told about registries, by the names of variables.

    Args:
        settings: This machine's variables and settings of pip; those of uv come before those of pip.
    """
    values = {name: _remote(settings.get(name, "")) for name in REGISTRY_VARIABLES}
    for pip, uv in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_EXTRA_INDEX_URL", "UV_INDEX")):
        values[uv] = values[uv] or values[pip]
    return {name: value for name, value in values.items() if value}


def _remote(addresses: str) -> str:
    # A directory of this machine is not in the image.
    return " ".join(address for address in addresses.split() if re.match("https?://", address))


def addresses() -> set[str]:
    """Return the registries that no image may name."""
    values = registry_settings(pip_settings() | os.environ).values()
    return {address for value in values for address in value.split()}


def _need(program: str) -> None:
    if shutil.which(program) is None:
        raise ImageError(f"`{program}` is not installed. On Debian: apt-get install buildah debootstrap")


def _report(buildah: Buildah, target: str, measure: Callable[[Path], list[Path]]) -> list[str]:
    with buildah.mounted(f"localhost/graft-{target}") as (_, root):
        config = buildah.ask("inspect", "--type", "image", f"localhost/graft-{target}")
        problems = check(root, config, addresses())
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
