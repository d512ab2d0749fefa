"""One host of a Ray cluster of this machine: the first process of its namespaces.

Run as `unshare --net --mount --pid --uts --fork --kill-child --mount-proc python host.py PLAN`; PLAN is JSON:

    name, address   of the host
    state           a directory of its own, for Ray's files and what jobs write to /tmp
    hidden          directories of which it sees nothing
    shown           files and directories in those that it does see
    command         starts Ray, and runs as long as Ray does
    environ         of the command

Ray is started again whenever it ends: with its head, for instance. It imports nothing of Graft.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BIND = 4096  # MS_BIND
POLL_SECONDS = 0.1
PAUSE_SECONDS = 3.0  # before Ray is started again
# Ray waits at most 15 s for its agents to write these files, which a loaded machine takes longer for (issue
# 65983 of Ray). As the ports are fixed, the files can be there before.
PORTS = {
    "dashboard_agent_listen_port": 52365,
    "metrics_agent_port": 52366,
    "metrics_export_port": 52367,
    "runtime_env_agent_port": 52368,
}


def mount(source: str, target: str, *, kind: str = "", options: str = "") -> None:
    """Mount a file system of a kind, or what is elsewhere already.

    mount(8) would look up where /proc/self/fd/5 leads to, which may be hidden by then.

    Raises:
        OSError: if the kernel refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = 0 if kind else BIND
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def arrange_files(state: Path, hidden: list[str], shown: list[str]) -> None:
    """Hide directories, but for what in them is to be seen; give the host its own /tmp and /dev/shm."""
    handles = {path: os.open(path, os.O_PATH) for path in shown}
    own = os.open(state / "tmp", os.O_PATH)
    for path in sorted(hidden):  # a directory before what is in it
        if os.path.isdir(path):
            mount("hidden", path, kind="tmpfs", options="mode=755,size=64m")
    mount(f"/proc/self/fd/{own}", "/tmp")
    for path, handle in sorted(handles.items()):
        is_directory = os.path.isdir(f"/proc/self/fd/{handle}")
        parent = Path(path) if is_directory else Path(path).parent
        parent.mkdir(parents=True, exist_ok=True)
        if not is_directory:
            Path(path).touch()
        mount(f"/proc/self/fd/{handle}", path)
    for handle in (own, *handles.values()):
        os.close(handle)
    mount("shared", "/dev/shm", kind="tmpfs", options="mode=1777,size=3g")


def name_host(name: str) -> None:
    """Name the host; Ray takes 127.0.0.1 for its address where /etc/hosts does not have the name."""
    socket.sethostname(name)
    hosts = Path("/tmp/hosts")
    hosts.write_text(f"127.0.0.1 localhost {name}\n")
    mount(str(hosts), "/etc/hosts")


def wait_for_link(address: str) -> None:
    """Wait for the link to the cluster's network, and take the host's address on it."""
    while "eth0" not in (name for _, name in socket.if_nameindex()):
        time.sleep(POLL_SECONDS)
    for words in ("link set lo up", f"address add {address}/24 dev eth0", "link set eth0 up"):
        subprocess.run(["ip", *words.split()], check=True)


def write_ports() -> None:
    """Write the files of the fixed ports for each raylet of this host."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() != "raylet":
                continue
            words = (process / "cmdline").read_text().split("\0")
            options = dict(
                word.lstrip("-").replace("-", "_", 1).split("=", 1) for word in words if "=" in word
            )
            if "node_id" in options and "session_dir" in options:
                _write_ports(Path(options["session_dir"]), options["node_id"])


def _write_ports(session: Path, node: str) -> None:
    for name, port in PORTS.items():
        path = session / f"{name}_{node}"
        if not path.exists():
            scratch = session / f".{name}"
            scratch.write_text(str(port))
            scratch.rename(path)


def run_ray(command: list[str], environ: dict[str, str]) -> None:
    """Run Ray until it ends; end what it left."""
    process = subprocess.Popen(command, env=environ, start_new_session=True)
    while (ended := os.waitpid(-1, os.WNOHANG))[0] != process.pid:
        if not ended[0]:
            write_ports()
            time.sleep(POLL_SECONDS)
    process.returncode = ended[1]
    sys.stderr.write(f"Ray ended with status {os.waitstatus_to_exitcode(ended[1])}.\n")
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # all of this process namespace but this process, which is its first
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def main(plan: dict[str, Any]) -> None:
    """Be the host until it is killed."""
    if os.getpid() != 1:  # it ends every process that it sees, and mounts over directories
        sys.exit("This is the first process of a host in namespaces; `graft ray up` starts it.")
    arrange_files(Path(plan["state"]), plan["hidden"], plan["shown"])
    name_host(plan["name"])
    wait_for_link(plan["address"])
    while True:
        run_ray(plan["command"], plan["environ"])
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
