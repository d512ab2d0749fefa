"""What a job's program sees of `gs://` URIs whose bucket is a directory of this machine.

Trainers read them with `tf.io.gfile`, `open` or pandas, which know nothing of mapped buckets: they get paths.
Google's storage client finds the same buckets at the address in `STORAGE_EMULATOR_HOST`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.backends import TrainingJob
from pipeline.storage import BucketAddress

LOCAL, GS = "local", "gs"
OUR_MODULES = "pipeline.trainer."  # they read URIs themselves
_GCSFS = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}  # it would ask Google what kind of bucket it is
_URI = re.compile(r"""(?<![\w+.-])gs://([\w.-]+)((?:/[^\s,;"']*)?)""")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPaths:
    """The arguments and the variables of one job.

    Args:
        job: The job.
        addresses: What each mapped bucket stands for.
        mode: `local` if URIs of mapped buckets become paths in its arguments, `gs` if they stay.
    """

    job: TrainingJob
    addresses: Mapping[str, BucketAddress]
    mode: str

    @property
    def arguments(self) -> list[str]:
        """The command line of the program, with `--job-dir` at its end."""
        arguments = [*self.job.args, *(["--job-dir", self.job.job_dir] if self.job.job_dir else [])]
        if self.mode != LOCAL or self._is_ours:
            return arguments
        return [local_argument(argument, self._directories) for argument in arguments]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that concern URIs; that of the storage client is set when its server listens."""
        job_dir = {"CLOUD_ML_JOB_DIR": self.job.job_dir} if self.job.job_dir else {}
        return job_dir | (_GCSFS if self.has_bucket_server else {})

    @property
    def has_bucket_server(self) -> bool:
        """Whether the storage client is sent to the mapped buckets.

        It reaches one address only, so a job that names a bucket of Google's is left with Google's.
        """
        names = self._bucket_names
        return bool(names) and not self._is_ours and names <= set(self._directories)

    @property
    def notes(self) -> list[str]:
        """What the job's log says about URIs."""
        return [] if self._is_ours else [*self._notes_of_directories(), *self._notes_of_s3()]

    def _notes_of_directories(self) -> list[str]:
        names = sorted(self._bucket_names & set(self._directories))
        if not names:
            return []
        places = ", ".join(f"gs://{name} is {self._directories[name]}" for name in names)
        arguments = "its arguments hold paths" if self.mode == LOCAL else "its arguments hold gs:// URIs"
        notes = [f"Buckets: {places}; {arguments} (GRAFT_ENGINE_JOB_PATHS={self.mode})."]
        if self.has_bucket_server:
            notes += ["google.cloud.storage finds them at STORAGE_EMULATOR_HOST."]
        else:
            notes += ["google.cloud.storage asks Google, because a bucket in its arguments is remote."]
        return notes

    def _notes_of_s3(self) -> list[str]:
        return [
            f"gs://{name} is {self.addresses[name]}, which tf.io.gfile and google.cloud.storage do not open: "
            "use a client of S3; the variables AWS_... hold its key."
            for name in sorted(self._bucket_names & set(self.addresses) - set(self._directories))
        ]

    @property
    def _directories(self) -> dict[str, Path]:
        return {name: path for name, path in self.addresses.items() if isinstance(path, Path)}

    @property
    def _is_ours(self) -> bool:
        return self.job.python_module.startswith(OUR_MODULES)

    @property
    def _bucket_names(self) -> set[str]:
        return {
            match[1] for text in (*self.job.args, self.job.job_dir or "") for match in _URI.finditer(text)
        }


def local_argument(argument: str, directories: Mapping[str, Path]) -> str:
    """Return an argument with paths for the URIs of mapped buckets, wherever they stand in it.

    So `gs://b/x`, `--data=gs://b/x`, lists with commas and JSON are understood. A URI with `..` in it stays.
    """

    def path(match: re.Match[str]) -> str:
        root = directories.get(match[1])
        return match[0] if root is None or ".." in match[2].split("/") else f"{root}{match[2]}"

    return _URI.sub(path, argument)
