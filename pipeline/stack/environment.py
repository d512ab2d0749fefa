"""The commands of the components and the environment each is started with."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline import __version__
from pipeline.config import SHIPPED_DAGS, Settings
from pipeline.engine.control import EngineSettings, database_name, engine_arguments
from pipeline.stack.processes import Account
from pipeline.stack.profile import SERVERS
from pipeline.stack.state import LOOPBACK, USERNAME, Secrets, StackState
from pipeline.stack.users import parse_users
from pipeline.storage import parse_buckets
from pipeline.types import JsonObject

ENGINE = "engine"
API_SERVER = "airflow-api-server"
SCHEDULER = "airflow-scheduler"
AIRFLOW_COMMANDS = {
    API_SERVER: ("api-server",),
    # Each would serve its logs on a fixed port of every interface; the API server reads them from disk.
    SCHEDULER: ("scheduler", "--skip-serve-logs"),
    "airflow-dag-processor": ("dag-processor",),
    "airflow-triggerer": ("triggerer", "--skip-serve-logs"),
}
COMPONENTS = (ENGINE, *AIRFLOW_COMMANDS)
SECOND_ENGINE = "engine-2"
GATEWAY = "gateway"  # of a team's stack that other machines may join
FRONT = "front"  # the one address for predictions of a team's stack
LINK = "link"  # of a home that has joined one
# `-P` keeps the working directory off sys.path: a file there named like a library would hide the library.
PYTHON = (sys.executable, "-P")
FOREIGN = ("AIRFLOW", "GRAFT_", "PYTHONPATH", "PYTHONHOME")


LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"
# One DAG file for each classifier: docs/adr/0007.
DAG_BUNDLES: list[JsonObject] = [
    {"name": "dags-folder", "classpath": LOCAL_BUNDLE, "kwargs": {}},
    {"name": "classifiers", "classpath": "graft.classifier_bundle.ClassifierBundle", "kwargs": {}},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One process of the stack, ready to be started."""

    name: str
    command: tuple[str, ...]
    variables: dict[str, str]
    account: Account | None = None

    @property
    def is_engine(self) -> bool:
        """Whether it serves ML Engine."""
        return self.name in (ENGINE, SECOND_ENGINE)

    @property
    def is_door(self) -> bool:
        """Whether others reach the stack through it: machines that join, or clients that predict."""
        return self.name in (GATEWAY, FRONT)

    @property
    def is_airflow(self) -> bool:
        """Whether it is one of Airflow's."""
        return self.name.startswith("airflow-")

    @property
    def environ(self) -> dict[str, str]:
        """The caller's environment without what could bend the stack, and the component's variables."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        proxied = inherited.get("no_proxy") or inherited.get("NO_PROXY") or ""
        direct = ",".join(dict.fromkeys([*filter(None, proxied.split(",")), LOOPBACK, "localhost"]))
        return inherited | {"no_proxy": direct, "NO_PROXY": direct} | self.variables

    @property
    def fingerprint(self) -> str:
        """Digest of what the component was started with; a change asks for a restart."""
        text = json.dumps([__version__, self.command, sorted(self.variables.items())])
        return hashlib.sha256(text.encode()).hexdigest()


def build_components(settings: Settings, state: StackState, secrets: Secrets) -> tuple[Component, ...]:
    """Return the engine and Airflow's four components, the engine first."""
    shared = graft_variables(settings)
    engine = Component(
        name=ENGINE,
        command=(
            *PYTHON,
            *engine_arguments(host=LOOPBACK, port=state.engine_port, home=settings.home),
        ),
        variables=shared | engine_variables() | database_variables(settings),
    )
    airflow = shared | pipeline_variables(settings) | airflow_variables(settings, state, secrets)
    return engine, *(
        Component(name=name, command=(*PYTHON, "-m", "airflow", *arguments), variables=airflow)
        for name, arguments in AIRFLOW_COMMANDS.items()
    )


def component_names(state: StackState) -> tuple[str, ...]:
    """Return the names of all components of a stack, in the order of their start."""
    if not state.is_team:
        return COMPONENTS
    if state.joined:
        return (LINK, *((ENGINE,) if state.serves else ()), *worker_names(state.workers))
    servers = tuple(name for name in SERVERS if name in state.ports)
    doors = (*((GATEWAY,) if state.address else ()), *((FRONT,) if state.serves else ()))
    engines = ENGINE, SECOND_ENGINE
    return (*servers, *engines, *doors, *AIRFLOW_COMMANDS, *worker_names(state.workers))


def worker_names(count: int) -> tuple[str, ...]:
    """Return the names of Celery workers."""
    return tuple(f"airflow-worker-{number}" for number in range(1, count + 1))


def celery_node(name: str, machine: str = "graft") -> str:
    """Return what Celery calls the worker of a component."""
    return f"{name.removeprefix('airflow-')}@{machine}"


def engine_variables() -> dict[str, str]:
    """Return the engine's settings that the caller's environment has.

    Raises:
        ConfigError: if one cannot be read; the engine would not start.
    """
    EngineSettings()
    names = [f"GRAFT_ENGINE_{field.upper()}" for field in EngineSettings.model_fields]
    return {name: os.environ[name] for name in names if name in os.environ}


def database_variables(settings: Settings) -> dict[str, str]:
    """Return the variables that name the engine's database, where it is no file of the home.

    Raises:
        ConfigError: if they name none; the engine would not start.
    """
    if not settings.database:
        return {}
    file = settings.database_password_file
    database_name(settings.home, settings.database, file)
    named = {"GRAFT_DATABASE_PASSWORD_FILE": str(file.expanduser().absolute())} if file else {}
    return {"GRAFT_DATABASE": settings.database, **named}


def graft_variables(settings: Settings) -> dict[str, str]:
    """Return what every component gets: the settings that the engine reads too, and quiet libraries.

    A setting that the engine does not read must not be here: a change of it would restart the engine, and
    interrupt every served model.
    """
    buckets = parse_buckets(settings.buckets)
    return {
        "GRAFT_HOME": str(settings.home),
        "GRAFT_BUCKETS": ",".join(f"{name}={path}" for name, path in buckets.items()),
        "GRAFT_BUCKET": settings.bucket,
        "GRAFT_PROJECT": settings.project,
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        # NumPy's and SciPy's other threads wait busily: 0.2 s of CPU a task.
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
    }


def pipeline_variables(settings: Settings) -> dict[str, str]:
    """Return the settings that only Airflow's components read, with absolute paths."""
    return {
        "GRAFT_CLASSIFIERS": os.pathsep.join(
            str(path) for path in settings.classifier_directories[1:] if path != settings.own_classifiers
        ),
        "GRAFT_KEEP_VERSIONS": str(settings.keep_versions),
        "GRAFT_KEEP_DAYS": str(settings.keep_days),
        "GRAFT_DEMO_PER_MINUTE": str(settings.demo_per_minute),
    }


def airflow_variables(settings: Settings, state: StackState, secrets: Secrets) -> dict[str, str]:
    """Return Airflow's own settings, those of downloads, and the connections of operators."""
    variables = {
        f"AIRFLOW__{section}__{key}": str(value)
        for section, values in _airflow_sections(settings, state, secrets).items()
        for key, value in values.items()
    }
    downloads = {
        "GRAFT_FETCH_ALLOW": settings.fetch_allow,
        "GRAFT_FETCH_CONTACT": settings.fetch_contact,
        "GRAFT_FETCH_POOL": settings.fetch_pool,
    }
    # The keys of image searches are connections of the user's own.
    theirs = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_")}
    ours = {"AIRFLOW_HOME": str(airflow_home(settings))} | _connections(settings, state, secrets)
    return variables | downloads | theirs | ours


def _airflow_sections(
    settings: Settings, state: StackState, secrets: Secrets
) -> dict[str, dict[str, str | float | Path]]:
    return {
        "CORE": {
            "DAGS_FOLDER": SHIPPED_DAGS,
            "PLUGINS_FOLDER": SHIPPED_DAGS.with_name("plugins"),
            "LOAD_EXAMPLES": False,
            "EXECUTOR": "LocalExecutor",
            "PARALLELISM": 4,
            "DAGS_ARE_PAUSED_AT_CREATION": False,
            "EXECUTION_API_SERVER_URL": f"{state.airflow_url}/execution/",
            "HOSTNAME_CALLABLE": "socket.gethostname",
            "SIMPLE_AUTH_MANAGER_USERS": ",".join(
                f"{name}:{role}" for name, role in {USERNAME: "admin", **parse_users(settings.users)}.items()
            ),
            "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": airflow_home(settings) / "passwords.json",
            "FERNET_KEY": secrets.fernet_key,
            "MIN_SERIALIZED_DAG_UPDATE_INTERVAL": 5,
            # Whoever may press Test may also write connections, and may thus reach all that a task can.
            "TEST_CONNECTION": "Enabled",
        },
        "API": {
            "HOST": LOOPBACK,
            "PORT": state.airflow_port,
            "BASE_URL": state.airflow_url,
            "SECRET_KEY": secrets.api_secret_key,
            "WORKERS": 1,
        },
        "API_AUTH": {"JWT_SECRET": secrets.jwt_secret},
        # SQLite lets one process write at a time; on a busy machine others wait longer than its 5 seconds.
        "DATABASE": {"SQL_ALCHEMY_CONN": f"sqlite:///{database_path(settings)}?timeout=60"},
        "DAG_PROCESSOR": {
            "DAG_BUNDLE_CONFIG_LIST": json.dumps(dag_bundles(settings)),
            "REFRESH_INTERVAL": 10,
            "MIN_FILE_PROCESS_INTERVAL": 60,  # a changed file is read at the next refresh all the same
            "BUNDLE_REFRESH_CHECK_INTERVAL": 5,
        },
        # A killed worker or scheduler is noticed within about a minute instead of five.
        "SCHEDULER": {
            "SCHEDULER_IDLE_SLEEP_TIME": 0.5,
            "TASK_INSTANCE_HEARTBEAT_TIMEOUT": 60,
            "ORPHANED_TASKS_CHECK_INTERVAL": 30,
        },
        "LOGGING": {"COLORED_CONSOLE_LOG": False},
    }


def dag_bundles(settings: Settings) -> list[JsonObject]:
    """Return where DAG files come from: our folder, the classifiers, the directories of `GRAFT_DAGS`."""
    theirs: list[JsonObject] = [
        {"name": f"dags-{number}", "classpath": LOCAL_BUNDLE, "kwargs": {"path": str(path)}}
        for number, path in enumerate(settings.dag_directories)
    ]
    return [*DAG_BUNDLES, *theirs]


def _connections(settings: Settings, state: StackState, secrets: Secrets) -> dict[str, str]:
    others = {"others": state.second_engine_url} if SECOND_ENGINE in state.ports else {}
    engine = {
        "conn_type": "ml_engine",
        "host": state.engine_url,
        "password": secrets.engine_token,
        "extra": {"project": settings.project, **others},
    }
    airflow = {
        "conn_type": "http",
        "host": state.airflow_url,
        "login": USERNAME,
        "password": secrets.airflow_password,
    }
    return {
        "AIRFLOW_CONN_ML_ENGINE_DEFAULT": json.dumps(engine),
        "AIRFLOW_CONN_GRAFT_AIRFLOW_API": json.dumps(airflow),
    }


def airflow_home(settings: Settings) -> Path:
    """Return the directory of Airflow's own files."""
    return settings.home / "airflow"


def database_path(settings: Settings) -> Path:
    """Return the file of Airflow's database."""
    return airflow_home(settings) / "airflow.db"
