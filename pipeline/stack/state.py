"""What the stack remembers between commands: ports, processes, secrets. All of it in files of mode 0600."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from pipeline.errors import FormatTooNew, StackError
from pipeline.stack.processes import ProcessRecord, find_components, find_servers
from pipeline.stack.profile import SERVERS, find_profile
from pipeline.types import JsonDict, JsonValue, Profile

LOOPBACK = "127.0.0.1"
USERNAME = "admin"
LOCK_WAIT_SECONDS = 300
FORMAT = 1  # of stack.json, secrets.json and, where it has one, tokens.json
TEAM_FORMAT = 2  # of the stack.json of a team: a Graft that knows no profiles must not start its own there
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Random values made at the first start. The `repr` shows none of them."""

    engine_token: str = field(repr=False)
    airflow_password: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    api_secret_key: str = field(repr=False)
    fernet_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """The content of `stack.json`.

    Args:
        engine_port: The engine's port, chosen once.
        airflow_port: The port of Airflow's API server, chosen once.
        processes: The components as they were last started.
        database: The Airflow version whose tables the database has; empty before the first migration.
        profile: What the stack is made of.
        workers: How many Celery workers it has.
        ports: Of what only a team's stack has, by component.
        address: HOST:PORT where other machines join a team's stack; empty if none may.
        joined: HOST:PORT of the team's stack whose tasks this home's worker takes; empty for a stack.
        serves: HOST:PORT of the one address for predictions of a stack, or of the server of a home that has
            joined one; empty if there is none.
    """

    engine_port: int = 0
    airflow_port: int = 0
    processes: tuple[ProcessRecord, ...] = ()
    database: str = ""
    profile: Profile = Profile.LAPTOP
    workers: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    address: str = ""
    joined: str = ""
    serves: str = ""

    @property
    def is_team(self) -> bool:
        """Whether it has servers and Celery workers."""
        return self.profile is Profile.TEAM

    @property
    def engine_url(self) -> str:
        """Where the engine answers."""
        return f"http://{LOOPBACK}:{self.engine_port}"

    @property
    def second_engine_url(self) -> str:
        """Where the second engine of a team answers."""
        return f"http://{LOOPBACK}:{self.ports['engine-2']}"

    @property
    def airflow_url(self) -> str:
        """Where Airflow's UI and API answer."""
        return f"http://{LOOPBACK}:{self.airflow_port}"

    def find(self, name: str) -> ProcessRecord | None:
        """Return the component of this name, if it was ever started."""
        return next((record for record in self.processes if record.name == name), None)

    def with_process(self, record: ProcessRecord) -> StackState:
        """Return the state with one component's record put in or exchanged."""
        others = tuple(old for old in self.processes if old.name != record.name)
        return replace(self, processes=(*others, record))


def write_private(path: Path, value: JsonValue) -> None:
    """Write JSON to a file that only its owner can read; it survives a power cut once this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Let a file's new name survive a power cut, too."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_state(home: Path) -> StackState:
    """Return the content of `stack.json`, or an empty state before the first start.

    Where the file is damaged, the components that run are found among the processes.

    Raises:
        FormatTooNew: if a newer version of Graft wrote it.
    """
    path = home / "stack.json"
    try:
        value = json.loads(path.read_bytes())
        _check_format(path, value, TEAM_FORMAT)
        processes = tuple(ProcessRecord(**record) for record in value["processes"])
        return StackState(
            engine_port=int(value["engine_port"]),
            airflow_port=int(value["airflow_port"]),
            processes=processes,
            database=str(value["database"]),
            profile=Profile(value.get("profile", Profile.LAPTOP)),
            workers=int(value.get("workers", 0)),
            ports={name: int(port) for name, port in value.get("ports", {}).items()},
            address=str(value.get("address", "")),
            joined=str(value.get("joined", "")),
            serves=str(value.get("serves", "")),
        )
    except FileNotFoundError:
        return StackState()
    except (ValueError, TypeError, KeyError, OSError) as error:
        log.warning("%s is damaged (%r); looking for the processes of the stack", path, error)
        return recover_state(home)


def _check_format(path: Path, value: JsonValue, newest: int = FORMAT) -> None:
    """Refuse a newer format by name; a file without a number is of an earlier release."""
    number = value.get("format", 0) if isinstance(value, Mapping) else 0
    if isinstance(number, int):
        FormatTooNew.check(f"file {path}", number, newest)


def recover_state(home: Path) -> StackState:
    """Return the state of a stack from its processes alone."""
    components = find_components(home)
    profile = find_profile(home) or Profile.LAPTOP
    if profile is Profile.TEAM:
        components += find_servers({name: home / "servers" / name for name in SERVERS})
    ports = {record.name: port for record, port in components}
    engine_port, airflow_port = ports.pop("engine", 0), ports.pop("airflow-api-server", 0)
    return StackState(
        engine_port=engine_port,
        airflow_port=airflow_port,
        processes=tuple(record for record, _ in components),
        profile=profile,
        workers=sum("-worker-" in name for name in ports),
        ports={name: port for name, port in ports.items() if port},
    )


def save_state(home: Path, state: StackState) -> None:
    """Write `stack.json`; that of a laptop is as it was before there were profiles."""
    value = {**asdict(state), "processes": [old.to_dict() for old in state.processes]}
    if not state.is_team:
        for name in ("profile", "workers", "ports", "address", "joined", "serves"):
            del value[name]
    write_private(home / "stack.json", {"format": TEAM_FORMAT if state.is_team else FORMAT, **value})


def _read_json(path: Path) -> JsonDict | None:
    try:
        value: JsonDict = json.loads(path.read_text(encoding="utf-8"))
        return value
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> StackError:
    return StackError(
        f"{path} cannot be read: {error!r}. Stop the stack, then remove that file; it is made again."
    )


def load_secrets(home: Path) -> Secrets | None:
    """Return the secrets of this home, or None before the first start."""
    path = home / "secrets.json"
    value = _read_json(path)
    if value is None:
        return None
    _check_format(path, value)
    try:
        return Secrets(**{each.name: str(value[each.name]) for each in fields(Secrets)})
    except (KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def ensure_secrets(home: Path) -> Secrets:
    """Return the secrets of this home, made now if need be, with the file the engine reads its token from."""
    stored = load_secrets(home)
    if stored is None:
        stored = Secrets(
            engine_token=secrets.token_urlsafe(32),
            airflow_password=secrets.token_urlsafe(12),
            jwt_secret=secrets.token_urlsafe(48),
            api_secret_key=secrets.token_urlsafe(32),
            fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        )
        write_private(home / "secrets.json", {"format": FORMAT, **asdict(stored)})
    add_engine_token(home / "engine" / "tokens.json", stored.engine_token)
    return stored


def add_engine_token(path: Path, token: str) -> None:
    """Put the digest of a token into the engine's token file, beside those already there."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    value = _read_json(path) or {"tokens": []}
    _check_format(path, value)
    tokens = value["tokens"]
    if not any(entry["sha256"] == digest for entry in tokens):
        write_private(path, {"tokens": [*tokens, {"sha256": digest, "name": "stack"}]})


def is_port_free(port: int) -> bool:
    """Return True if a loopback port can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return unused loopback ports."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Let one `up` or `down` at a time work on a home.

    Raises:
        StackError: if another one does not end within minutes.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    with (home / "stack.lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError(
                        f"Another `graft up` or `graft down` has been running on {home} for "
                        f"{LOCK_WAIT_SECONDS} s; end it and try again."
                    ) from None
                time.sleep(0.1)
        yield
