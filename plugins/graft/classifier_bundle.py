"""A DAG bundle with one DAG file for each classifier YAML.

Airflow keeps import errors by file, and an error takes every DAG of its file away. So each YAML gets a file
of its own: a broken one shows as its own import error and harms no other. See docs/adr/0007.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import uuid
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle

from pipeline.config import SHIPPED_DAGS, Settings, classifier_files
from pipeline.config.yaml_text import parse_yaml
from pipeline.errors import ConfigError

log = logging.getLogger(__name__)

HEADER = "{path}\nAirflow's DAG file of this classifier, written by graft.classifier_bundle.\n\n{text}"
DAG_SOURCE = """
from graft.training_dag import read_training_dag

dag = read_training_dag({path!r})
"""
ERROR_SOURCE = """
from pipeline.errors import ConfigError

raise ConfigError({message!r})
"""


class ClassifierBundle(BaseDagBundle):
    """The classifiers of `dags/classifiers` and `GRAFT_CLASSIFIERS` as DAG files.

    A refresh writes what is new or changed and removes what is gone; a file is replaced whole, so that
    several processes may refresh at once. Configured in `[dag_processor] dag_bundle_config_list`.

    Args:
        path: Where the files go; `$GRAFT_HOME/classifier_dags` unless given.
        shipped_dags: Whether the DAGs that Graft ships (`engine_sweep`, `model_rollback`) are among them,
            for an Airflow whose DAGs folder is not Graft's.
        arguments: Those of every bundle.
    """

    supports_versioning = False

    def __init__(self, *, path: str | None = None, shipped_dags: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._shipped = sorted(SHIPPED_DAGS.glob("*.py")) if shipped_dags else []
        self._path = Path(path) if path else Settings().home / "classifier_dags"

    @property
    def path(self) -> Path:
        """Where the DAG files are."""
        return self._path

    def initialize(self) -> None:
        """Write the files: a worker may run where no dag-processor ever did."""
        # Every task and every parsing is a fork: a full collection there walks all of Airflow's objects.
        gc.freeze()
        self.refresh()
        super().initialize()

    def get_current_version(self) -> None:
        """Return nothing: like a local folder, this bundle has no versions."""

    def refresh(self) -> None:
        """Make the files what the YAMLs are now."""
        self._path.mkdir(parents=True, exist_ok=True)
        wanted = write_sources(classifier_files(Settings()))
        wanted |= {path.name: path.read_text(encoding="utf-8") for path in self._shipped}
        for name, source in wanted.items():
            _replace(self._path / name, source)
        for path in self._path.glob("*.py"):
            if path.name not in wanted:
                log.info("classifier file %s is gone; removing its DAG", path.name)
                path.unlink(missing_ok=True)


def write_sources(paths: list[Path]) -> dict[str, str]:
    """Return the text of each YAML's DAG file, by file name; a name used twice is the second one's error."""
    sources: dict[str, str] = {}
    owners: dict[str, Path] = {}
    for path in paths:
        file_name = f"{path.name}.py"
        if file_name in sources:
            digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
            file_name = f"{path.stem}-{digest}{path.suffix}.py"
        text = path.read_bytes().decode("utf-8", errors="replace")
        name = _name_in(text)
        owner = owners.setdefault(name, path) if name else path
        code = DAG_SOURCE.format(path=str(path))
        if owner != path:
            message = f"{path}: `name`: {name!r} is the name of {owner} already; choose another one"
            code = ERROR_SOURCE.format(message=message)
        sources[file_name] = _as_comment(HEADER.format(path=path, text=text)) + code
    return sources


def _name_in(text: str) -> str | None:
    try:
        value = parse_yaml(text)
    except ConfigError:
        return None
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None


def _as_comment(text: str) -> str:
    """Return text as comment lines: Airflow's page of the DAG's code then shows the YAML."""
    lines = text.replace("\0", "").splitlines()
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _replace(path: Path, source: str) -> None:
    data = source.encode("utf-8")
    if path.exists() and path.read_bytes() == data:
        return
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    partial.write_bytes(data)
    os.replace(partial, path)
