"""Installs a job's packages into the job's own directories; runs as the first part of the job.

`python -P -m pipeline.engine.backends.installer JOB_DIRECTORY` takes the `packages` of its `job.json`.
  1. The packages that the job names go to `site/`, without an index: they are all there is.
  2. What they require and the runtime lacks goes to `env/`, by pip from its index, so that pip sees what the
     runtime has and takes nothing twice.
Nothing is kept for other jobs. Why it failed, for the job's `errorMessage`, is left in `problem.txt`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from pipeline.engine.backends.archives import UnsafePackage, check_package

PIP = (sys.executable, "-m", "pip")
QUIET = ("--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-warn-script-location")
FROM_FILES = ("--no-index", "--no-deps", "--no-build-isolation", "--no-compile", "--ignore-installed")
PATIENCE = ("--retries", "1", "--timeout", "15")  # a closed index is a clear error, and soon
INDEX, NO_INDEX = "GRAFT_ENGINE_PACKAGE_INDEX", "none"  # by environment: an index may have a password


class InstallError(Exception):
    """The packages cannot be installed; the message goes to the job's `errorMessage`."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A requirement that neither the job's packages nor the runtime meet."""

    requirement: Requirement
    package: str
    version: str | None

    def __str__(self) -> str:
        has = f"has {self.version}" if self.version else "does not have it"
        return f"{self.package} requires {self.requirement}, and the runtime {has}"


def environment_path(directory: Path) -> Path:
    """Return where a job's requirements are installed."""
    scheme = sysconfig.get_path("purelib", "venv", vars={"base": str(directory / "env")})
    return Path(scheme)


def _site_environment(environ: dict[str, str]) -> dict[str, str]:
    """Return the environment in which the packages are built: no index, no secret of one."""
    visible = {
        key: value
        for key, value in environ.items()
        if not key.startswith(("PIP_", "GRAFT_ENGINE_PACKAGE")) and not key.lower().endswith("_proxy")
    }
    return _without_source(visible) | {"PIP_CONFIG_FILE": os.devnull}


def _without_source(environ: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in environ.items() if key != "PYTHONPATH"}


def install_packages(packages: list[str], site: Path, prefix: Sequence[str] = ()) -> None:
    """Install sdists and wheels, without what they require.

    Args:
        packages: Their files.
        site: Where to.
        prefix: What pip is put behind, to restrict what the sdists run: it must not even read this process.

    Raises:
        InstallError: if pip refuses.
    """
    command = [*prefix, *PIP, "install", "--quiet", *QUIET, *FROM_FILES, "--target", str(site)]
    environ = _site_environment(dict(os.environ)) | ({"HOME": str(site.parent / "home")} if prefix else {})
    for group in install_order(packages):
        code = subprocess.run([*command, "--upgrade", *group], env=environ, check=False).returncode
        if code:
            raise InstallError(
                f"The packages could not be installed: pip exited with a non-zero status of {code}."
            )


def install_order(packages: Sequence[str]) -> list[list[str]]:
    """Return what pip installs at once: all packages, or one after the other if two are of one project.

    v1 installed each after the one before it, so that the last one of a project stays. The same file under
    two addresses counts once.
    """
    digests = {hashlib.sha256(Path(package).read_bytes()).digest(): package for package in reversed(packages)}
    distinct = [package for package in packages if package in digests.values()]
    names = [_project_of(Path(package).name) for package in distinct]
    return [distinct] if len(set(names)) == len(names) else [[package] for package in distinct]


def _project_of(filename: str) -> str:
    """Return the project of a package's file, or the file's name if it does not say."""
    try:
        parse = parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename
        return str(parse(filename)[0])
    except (InvalidWheelFilename, InvalidSdistFilename):
        return filename


def missing_requirements(site: Path) -> list[Missing]:
    """Return the requirements of a directory's packages that neither it nor the runtime meets."""
    installed: dict[str, Distribution] = {}
    for package in importlib.metadata.distributions(path=[str(site), *sys.path]):
        installed.setdefault(canonicalize_name(package.metadata["Name"] or ""), package)
    own = importlib.metadata.distributions(path=[str(site)])
    return [missing for package in own for missing in _missing_of(package, "", installed)]


def _missing_of(package: Distribution, extra: str, installed: dict[str, Distribution]) -> Iterator[Missing]:
    name = f"{package.metadata['Name']} {package.version}"
    for text in package.requires or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise InstallError(f"{name} has a requirement that cannot be read: {text!r}: {error}") from error
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        if extra and not (requirement.marker and "extra" in str(requirement.marker)):
            continue  # not the extra's: checked with its package
        match = installed.get(canonicalize_name(requirement.name))
        if match is None or not requirement.specifier.contains(match.version, prereleases=True):
            yield Missing(requirement, name, match.version if match else None)
            continue
        for name_of_extra in sorted(requirement.extras):
            yield from _missing_of(match, name_of_extra, installed)


def install_requirements(missing: list[Missing], directory: Path, index: str) -> None:
    """Install what is missing from the index, into an environment that sees the runtime.

    Raises:
        InstallError: naming what could not be installed.
    """
    problem = "; ".join(map(str, missing))
    if index == NO_INDEX:
        raise InstallError(
            f"{problem}. This engine installs nothing from an index ({INDEX} is none): add the wheel to "
            "packageUris."
        )
    python = _make_environment(directory)
    requirements = [str(item.requirement) for item in missing]
    command = [*PIP, "--python", str(python), "install", "--quiet", *QUIET, *PATIENCE, *requirements]
    environ = _without_source(dict(os.environ))  # with pip's own settings, and what it logs in with
    if index:
        environ = _site_environment(environ) | {"PIP_INDEX_URL": index}
    done = subprocess.run(
        command, env=environ, check=False, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    sys.stderr.write(done.stderr)
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = reasons[-1].removeprefix("ERROR: ") if reasons else f"status {done.returncode}"
        raise InstallError(
            f"{problem}. pip could not install it: {reason}. Add the wheel to packageUris, or name an index "
            f"that has it in {INDEX}."
        )


def _make_environment(directory: Path) -> Path:
    """Make a virtual environment in which pip finds what the runtime and the job have; return its Python."""
    env = directory / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    paths = [str(directory / "site"), *(path for path in sys.path if path and Path(path).is_dir())]
    (environment_path(directory) / "runtime.pth").write_text("\n".join(paths) + "\n")
    return env / "bin" / "python"


def install(directory: Path) -> None:
    """Install all that a job needs.

    Raises:
        InstallError: saying what is wrong, with what, and what to do.
    """
    job, site = json.loads((directory / "job.json").read_text()), directory / "site"
    packages = job["packages"]
    try:
        for package in packages:
            check_package(Path(package))
    except UnsafePackage as error:
        raise InstallError(str(error)) from error
    install_packages(packages, site, job["build_prefix"])
    if missing := missing_requirements(site):
        install_requirements(missing, directory, os.environ.get(INDEX, ""))


def main(directory: Path) -> int:
    """Install; return the exit code."""
    try:
        install(directory)
    except InstallError as error:
        (directory / "problem.txt").write_text(str(error))
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
