"""Settings from the environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from pipeline.config.environment import EnvironmentSettings
from pipeline.storage import WORKSPACE_BUCKET

PROJECT_ROOT = Path(__file__).resolve().parents[2]
# A wheel has the DAGs within the package of the plugins, a checkout beside `pipeline` (setup.py).
_INSTALLED_DAGS = PROJECT_ROOT / "graft" / "dags"
SHIPPED_DAGS = _INSTALLED_DAGS if _INSTALLED_DAGS.is_dir() else PROJECT_ROOT / "dags"
SHIPPED_CLASSIFIERS = SHIPPED_DAGS / "classifiers"


class Settings(EnvironmentSettings):
    """What the environment says; every variable starts with `GRAFT_`."""

    model_config = SettingsConfigDict(env_prefix="GRAFT_", extra="ignore", frozen=True)

    home: Path = Field(
        Path(".graft"), description="Directory of all state: buckets, engine, Airflow, logs, secrets."
    )
    classifiers: str = Field("", description="Further directories of classifier YAML, separated by `:`.")
    dags: str = Field("", description="Further directories of DAG files for our Airflow, separated by `:`.")
    buckets: str = Field("", description="Directories that stand for buckets: `name=/directory,...`.")
    bucket: str = Field(WORKSPACE_BUCKET, description="The bucket that holds datasets, models and runs.")
    fetch_allow: str = Field(
        "", description="Private places that downloads may reach, and odd ports: `host:port,...`."
    )
    fetch_contact: str = Field("", description="Address or page that the User-Agent of downloads names.")
    fetch_pool: str = Field(
        "", description="Airflow pool that `fetch` tasks take a slot of; `graft up` makes it."
    )
    keep_versions: int = Field(
        3, ge=2, description="How many versions that served `engine_sweep` keeps, the default among them."
    )
    keep_days: float = Field(
        30, ge=1, description="How long `engine_sweep` keeps folders of jobs that no version needs."
    )
    demo_per_minute: int = Field(
        20, ge=0, description="Pictures a minute that a link to a demo page may ask about; 0: no demo pages."
    )
    users: str = Field(
        "",
        description="Further people of Airflow: `name:role,...`; viewer, user, op or admin.",
    )
    database: str = Field(
        "",
        description="The engine's database where it is no file of `GRAFT_HOME`: "
        "`postgresql+psycopg://USER@HOST:PORT/DATABASE`, without a password.",
        repr=False,
    )
    database_password_file: Path | None = Field(
        None, description="A file with the password of `GRAFT_DATABASE`, read for each connection."
    )
    airflow_database: str = Field(
        "",
        description="Airflow's database in the team profile, where it is on a server that runs: "
        "`postgresql+psycopg://USER@HOST:PORT/DATABASE`, without a password.",
        repr=False,
    )
    broker: str = Field(
        "", description="Redis of the team profile, where it runs already: `redis://HOST:PORT/NUMBER`."
    )
    broker_password_file: Path | None = Field(None, description="A file with the password of `GRAFT_BROKER`.")
    project: str = Field("local", description="The project in ML Engine's resource names.")
    ml_engine_url: str = Field(
        "", description="Where notebooks find ML Engine; the stack of `GRAFT_HOME` by default."
    )
    ml_engine_token: SecretStr = Field(SecretStr(""), description="Bearer token for `GRAFT_ML_ENGINE_URL`.")

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def workspace(self) -> str:
        """URI of the bucket that holds datasets, models and runs, without a trailing slash."""
        return f"gs://{self.bucket}"

    @property
    def classifier_directories(self) -> list[Path]:
        """The shipped directory, those of `GRAFT_CLASSIFIERS`, and that of the home where there is one."""
        configured = _directories(self.classifiers)
        own = [self.own_classifiers] if self.own_classifiers.is_dir() else []
        return list(dict.fromkeys([SHIPPED_CLASSIFIERS, *configured, *own]))

    @property
    def own_classifiers(self) -> Path:
        """The directory of YAML that belongs to the home: notebooks write theirs there."""
        return self.home / "classifiers"

    @property
    def dag_directories(self) -> list[Path]:
        """The directories of `GRAFT_DAGS`."""
        return _directories(self.dags)


def _directories(text: str) -> list[Path]:
    return [Path(part).expanduser().absolute() for part in text.split(os.pathsep) if part]
