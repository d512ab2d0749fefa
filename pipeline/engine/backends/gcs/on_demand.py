"""Starts the server of a job's buckets when its first request arrives: most jobs send none."""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pipeline.engine.backends.gcs import SECRET


@dataclass(slots=True, kw_only=True)
class OnDemandServer:
    """A listening socket, and the process that answers on it once there is something to answer.

    Args:
        command: Of the process; the number of the socket is added to it.
        environ: Of the process.
        mark: Called in the process before the command is run.
    """

    command: list[str]
    environ: Mapping[str, str]
    mark: Callable[[], None]
    _secret: str = field(default_factory=secrets.token_urlsafe, init=False, repr=False)
    _listener: socket.socket = field(init=False, repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/{self._secret}"

    @property
    def waiting(self) -> list[int]:
        """The descriptor of the socket if nobody answers on it."""
        is_running = self._process is not None and self._process.poll() is None
        return [] if is_running else [self._listener.fileno()]

    def start(self) -> None:
        """Start the process."""
        number = self._listener.fileno()
        self._process = subprocess.Popen(
            [*self.command, str(number)],
            env={**self.environ, SECRET: self._secret},
            pass_fds=[number],
            preexec_fn=self.mark,
        )
