"""What a training job may reach: its directory, the buckets it names and, for our own trainer, the caches."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pipeline
from pipeline.engine.backends import TrainingJob
from pipeline.engine.backends.gcs.objects import BucketAccess
from pipeline.engine.sandbox import system
from pipeline.engine.sandbox.policy import Policy
from pipeline.engine.settings import EngineSettings
from pipeline.storage import S3Address, Storage
from pipeline.storage.aws_settings import aws_environment, aws_files

OWN = ("site", "env", "work", "tmp", "home")  # what a job may write of its directory; all of it goes with it
PROBLEM = "problem.txt"
METRICS = "metrics"  # what a job may write, too, and what stays after it: it makes no links there
CACHES = ("features", "light", "templates", "weights")  # of the workspace: our trainer may add files to them
# What only the engine and the pipeline's tasks write; a job_dir may be anywhere else in the workspace.
PROTECTED = (
    *("blobs", "classifiers", "datasets", "engine", "features", "heads", "light", "models", "packages"),
    *("packs", "request_logs", "runs", "templates", "tests", "weights"),
)
OUR_MODULES = ("pipeline.trainer.task", "pipeline.trainer.comparison", "pipeline.trainer.study_trial")
_OUR_SETUP = re.compile(
    rb"from setuptools import setup\n\n"
    rb"setup\(name='graft-trainer', version='[\w.+]+', packages=\[[\w., ']+\]\)\n"
)
_BUCKET = re.compile(r"gs://([\w.-]+)")
_PIP_FILES = (".config/pip", ".pip", ".netrc")
_CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAccess:
    """What one job may reach.

    Args:
        job: The job.
        directory: Its directory.
        storage: Knows which buckets are directories.
        workspace: URI of the workspace.
        settings: Name what else jobs may read.
    """

    job: TrainingJob
    directory: Path
    storage: Storage
    workspace: str
    settings: EngineSettings

    def prepare(self, environ: Mapping[str, str]) -> Policy:
        """Return the policy of the installation of its packages."""
        home = Path(environ.get("HOME") or "~").expanduser()
        pip = [str(home / name) for name in _PIP_FILES] + ["/etc/pip.conf", "/etc/xdg/pip"]
        pip += _local_paths(environ, self.settings.package_index)
        return self._policy((*self._system(environ), *pip, *self._extra_reads()), update=(PROBLEM,))

    def build(self, environ: Mapping[str, str]) -> Policy:
        """Return the policy of what its sdists run while they are built."""
        return self._policy(self._system(environ))

    def run(self, environ: Mapping[str, str]) -> Policy:
        """Return the policy of its program."""
        reads = (*self._buckets(), *self._extra_reads(), str(keras_home(environ)))
        if credentials := environ.get(_CREDENTIALS):
            reads = (*reads, credentials)
        if self._has_s3_bucket:
            reads = (*reads, *aws_files(environ))
        output = (str(self.directory / METRICS), *self._output())
        return self._policy((*self._system(environ), *reads), output=output, fill=self._caches())

    def _policy(
        self,
        read: tuple[str, ...],
        *,
        output: tuple[str, ...] = (),
        fill: tuple[str, ...] = (),
        update: tuple[str, ...] = (),
    ) -> Policy:
        return Policy(
            read=(*read, str(self.directory / "packages"), str(self.directory / "job.json")),
            write=tuple(str(self.directory / name) for name in OWN),
            output=output,
            fill=fill,
            update=tuple(str(self.directory / name) for name in update),
            shared=("/dev/shm",),
            device=system.devices(),
        )

    def _system(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        engine = self.directory.parent.parent
        paths = (
            *(*system.LIBRARIES, *system.NETWORK, *system.NAMES, *system.interpreter()),
            *system.library_paths(dict(environ)),
        )
        return *system.around(paths, (engine.parent, *self.storage.directories.values())), str(
            engine / "source"
        )

    def _buckets(self) -> tuple[str, ...]:
        return tuple(str(path) for path in self._named_buckets().values())

    def _bucket_names(self) -> set[str]:
        names = {name for argument in self.job.args for name in _BUCKET.findall(argument)}
        return names | set(_BUCKET.findall(self.job.job_dir or ""))

    def _named_buckets(self) -> dict[str, Path]:
        names, directories = self._bucket_names(), self.storage.directories
        return {name: directories[name] for name in sorted(names) if name in directories}

    @property
    def _has_s3_bucket(self) -> bool:
        addresses = self.storage.addresses
        return any(isinstance(addresses.get(name), S3Address) for name in self._bucket_names())

    def secrets(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return what opens the buckets that it names in S3-compatible stores; no file may hold this."""
        return aws_environment(environ) if self._has_s3_bucket else {}

    def buckets(self) -> BucketAccess:
        """Return what the storage client of its program may reach: what the program may."""
        reads = [Path(path) for path in (*self._buckets(), *self._extra_reads())]
        named = self._named_buckets()
        extra = {
            name: root
            for name, root in self.storage.directories.items()
            if any(path.is_relative_to(root) for path in reads)
        }
        return BucketAccess(
            directories=named | extra,
            read=tuple(reads),
            write=tuple(Path(path) for path in self._output()),
            parts=self.output or self.directory / "tmp",
        )

    def _extra_reads(self) -> tuple[str, ...]:
        entries = (entry.strip() for entry in self.settings.job_reads.split(","))
        candidates = (
            self.local(entry) if entry.startswith("gs://") else Path(entry) for entry in entries if entry
        )
        return system.existing(str(path) for path in candidates if path)

    def local(self, uri: str) -> Path | None:
        """Return the directory that stands for a URI; None where its bucket is remote."""
        parts = urlsplit(uri)
        root = self.storage.directories.get(parts.netloc)
        if root is None or ".." in parts.path.split("/"):
            return None
        return root / parts.path.strip("/")

    @property
    def output(self) -> Path | None:
        """The directory of its `jobDir`, if it may be written: the engine's own folders may not."""
        path, workspace = self.local(self.job.job_dir or ""), self.local(self.workspace)
        if path is None or workspace is None or not path.is_relative_to(workspace):
            return None if path and workspace and workspace.is_relative_to(path) else path
        first = path.relative_to(workspace).parts[:1]
        if not first or first[0] in PROTECTED or path == workspace / "jobs":  # the folders of all jobs
            return None
        return path

    def _output(self) -> tuple[str, ...]:
        return (str(self.output),) if self.output else ()

    def _caches(self) -> tuple[str, ...]:
        workspace = self.local(self.workspace)
        if workspace is None or not self.is_ours:
            return ()
        return tuple(str(workspace / name) for name in CACHES)

    @property
    def is_ours(self) -> bool:
        """Whether it runs the trainer of this very installation, and nothing else was installed for it."""
        packages = self._packages()
        is_known = self.job.python_module in OUR_MODULES
        return is_known and len(packages) == 1 and is_our_package(packages[0])

    def _packages(self) -> list[Path]:
        return [path for path in (self.directory / "packages").glob("*/[!.]*") if path.is_file()]

    def unpack_own_package(self) -> bool:
        """Put the modules of our own trainer where pip would; return False if the job has another package.

        What is byte for byte this installation's needs neither pip nor a build.
        """
        if not self.is_ours:
            return False
        [package] = self._packages()
        with tarfile.open(package, "r:gz") as archive:
            for info in archive:
                file, name = archive.extractfile(info), info.name.partition("/")[2]
                if file is not None and name.startswith("pipeline/"):
                    path = self.directory / "site" / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(file.read())
        return True

    def make_directories(self, environ: Mapping[str, str]) -> None:
        """Make what the policies name: they hold for files that exist when the job starts."""
        for name in (*OWN, METRICS):
            (self.directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.directory / PROBLEM).touch()
        for path in (*self._output(), *self._caches()):
            Path(path).mkdir(parents=True, exist_ok=True)
        _link_keras_files(keras_home(environ), self.directory / "home" / ".keras")

    def environment(self) -> dict[str, str]:
        """Return the variables that keep a job within what it may write."""
        home, buckets = str(self.directory / "home"), self.storage.addresses.items()
        return {
            "HOME": home,
            "KERAS_HOME": f"{home}/.keras",
            "TMPDIR": str(self.directory / "tmp"),
            "GRAFT_HOME": home,
            "GRAFT_BUCKETS": ",".join(f"{name}={address}" for name, address in buckets),
            "GRAFT_PART_DIRECTORY": str(self.output or self.directory / "tmp"),
        }


def belongs_to_engine(uri: str, workspace: str) -> bool:
    """Return True if a URI is in a folder of the workspace that jobs may not write, or above one."""
    uri = uri.rstrip("/")
    if f"{workspace}/".startswith(f"{uri}/"):
        return True
    return uri.startswith(f"{workspace}/") and uri[len(workspace) + 1 :].split("/")[0] in PROTECTED


def keras_home(environ: Mapping[str, str]) -> Path:
    """Return where Keras keeps what it downloaded."""
    return Path(environ.get("KERAS_HOME") or Path.home() / ".keras")


def _link_keras_files(source: Path, target: Path) -> None:
    """Show a job what Keras downloaded before, and let it keep what it downloads itself."""
    target.mkdir(exist_ok=True)
    for path in (*source.glob("*.json"), *source.glob("models/*"), *source.glob("datasets/*")):
        link = target / path.relative_to(source)
        link.parent.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(path)


def _local_paths(environ: Mapping[str, str], index: str) -> list[str]:
    """Return the files and directories that pip's settings name."""
    texts = [value for key, value in environ.items() if key.upper().startswith(("PIP_", "SSL_", "REQUESTS_"))]
    words = [word for text in (*texts, index) for word in text.split()]
    return [unquote(urlsplit(word).path) for word in words if urlsplit(word).scheme in ("", "file")]


def is_our_package(path: Path) -> bool:
    """Whether a package holds modules of this installation of the pipeline, unchanged, and nothing else."""
    root = Path(pipeline.__file__).resolve().parent.parent
    try:
        with tarfile.open(path, "r:gz") as archive:
            return all(_is_ours(archive, info, root) for info in archive)
    except (tarfile.TarError, OSError, EOFError):
        return False


def _is_ours(archive: tarfile.TarFile, info: tarfile.TarInfo, root: Path) -> bool:
    file, name = archive.extractfile(info), info.name.partition("/")[2]
    if not info.isreg() or file is None:
        return False
    data = file.read()
    if name == "setup.py":
        return _OUR_SETUP.fullmatch(data) is not None
    if name == "PKG-INFO":
        return True
    parts = name.split("/")
    is_module = parts[0] == "pipeline" and ".." not in parts and name.endswith(".py")
    return is_module and (root / name).is_file() and (root / name).read_bytes() == data
