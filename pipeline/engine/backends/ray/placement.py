"""Places the replicas of one attempt on the nodes of Ray: all of them or none.

`PYTHON_OF_RAY -I placement.py` is started by the node that has the attempt. It reads its plan, a line of
JSON, from standard input: `wait_seconds`, the `command` of every replica, and `replicas`, each with a `name`
and the `resources` of its bundle. It writes what happens to standard output, a line of JSON each:

    {"waiting": WORDS}                    the cluster has no room yet
    {"placed": {NAME: "HOST:PORT"}}       every replica has a bundle and a port of its own
    {"replica": NAME, "lines": [...]}     what the replica's process wrote since; [] if it is only alive
    {"replica": NAME, "gone": WORDS}      its process has ended, or its node is lost

The first line of a replica's standard input has its name and the addresses of all. When this program's own
standard input closes, or on SIGTERM, it closes those of the replicas, relays what they still write, and ends.
It runs in Ray's environment and imports nothing of Graft.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

PORTS = range(20000, 30000)  # neither of Ray's workers, nor of those that the kernel gives to connections
READ_SECONDS = 2.0  # after which a replica that writes nothing is asked again, and so is known to live
ROOM_SECONDS = 20.0  # after which the log says that the cluster has no room
POLL_SECONDS = 0.5
BATCH_BYTES = 4_000_000  # of lines that are passed on at a time; one more line may be as long


def emit(**event: Any) -> None:
    """Write one event."""
    sys.stdout.write(f"{json.dumps(event)}\n")
    sys.stdout.flush()


def keep_output() -> None:
    """Keep standard output for events; what Ray prints goes where its errors go."""
    output = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(output, "w")


def free_port(host: str, taken: Sequence[int], ports: Sequence[int] = PORTS) -> int:
    """Return a port of this host on which nothing listens.

    Raises:
        OSError: if there is none.
    """
    for port in random.sample(ports, len(ports)):
        if port in taken:
            continue
        with socket.socket() as listener:
            try:
                listener.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"{host} has no free port from {ports[0]} to {ports[-1]}.")


class ReplicaProcess:
    """An actor of Ray: the process of one replica on the node of its bundle."""

    def __init__(self, command: Sequence[str], name: str) -> None:
        self._command = list(command)
        self._name = name
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None

    def choose_address(self, taken: Sequence[str]) -> str:
        """Return an address of this node that no replica has."""
        import ray

        host = ray.util.get_node_ip_address()
        return f"{host}:{free_port(host, [int(each.rpartition(':')[2]) for each in taken])}"

    def start(self, addresses: dict[str, str]) -> None:
        """Start the process."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        plan = {"name": self._name, "addresses": addresses}
        if self._process.stdin:
            self._process.stdin.write(f"{json.dumps(plan)}\n")
            self._process.stdin.flush()
        threading.Thread(target=self._relay, args=(self._process,), daemon=True).start()

    def _relay(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self._lines.put(line)
        process.wait()
        self._lines.put(None)

    def read(self, seconds: float) -> tuple[list[str], int | None]:
        """Return what the process wrote, waiting a little for it, and its exit status when it has ended."""
        lines: list[str] = []
        try:
            line = self._lines.get(timeout=seconds)
            while line is not None:
                lines.append(line)
                if sum(map(len, lines)) > BATCH_BYTES:
                    return lines, None
                line = self._lines.get_nowait()
        except queue.Empty:
            return lines, None
        return lines, self._process.returncode if self._process else 1

    def stop(self) -> None:
        """Have the process end the replica."""
        if self._process and self._process.stdin:
            self._process.stdin.close()


class Stop:
    """Knows when the replicas are to end: standard input closes, or SIGTERM comes."""

    def __init__(self) -> None:
        self.event = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        sys.stdin.read()
        self.event.set()

    def listen(self) -> None:
        """Take the signals; Ray's own handlers end the program at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.event.set())


def wait_for_room(is_placed: Callable[[float], bool], stop: threading.Event, words: str) -> bool:
    """Wait until the cluster has room for all bundles at once; return False if it is not wanted any more."""
    began, is_said = time.monotonic(), False
    while not is_placed(POLL_SECONDS):
        if stop.is_set():
            return False
        if not is_said and time.monotonic() - began > ROOM_SECONDS:
            emit(waiting=words)
            is_said = True
    return True


def relay(ray: Any, actors: dict[str, Any], stop: threading.Event, wait_seconds: float) -> None:
    """Pass on what the replicas write until all have ended."""
    reads = {actor.read.remote(READ_SECONDS): name for name, actor in actors.items()}
    deadline = float("inf")
    while reads and time.monotonic() < deadline:
        if stop.is_set() and deadline == float("inf"):
            deadline = time.monotonic() + wait_seconds
            for actor in actors.values():
                actor.stop.remote()
        for read in ray.wait(list(reads), num_returns=1, timeout=POLL_SECONDS)[0]:
            name = reads.pop(read)
            try:
                lines, code = ray.get(read)
            except ray.exceptions.RayError as error:
                emit(replica=name, gone=str(error).strip())
                continue
            emit(replica=name, lines=lines)
            if code is None:
                reads[actors[name].read.remote(READ_SECONDS)] = name
            else:
                emit(replica=name, gone=f"Its process ended with status {code}.")


def main() -> None:
    """Run the plan."""
    plan = json.loads(sys.stdin.readline())
    keep_output()
    import ray
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    stop = Stop()
    ray.init(address="auto", log_to_driver=False)
    stop.listen()
    replicas = plan["replicas"]
    group = placement_group([replica["resources"] for replica in replicas], strategy="SPREAD")
    words = f"The cluster has no room yet for {len(replicas)} replicas at once: {json.dumps(replicas)}"
    if not wait_for_room(group.wait, stop.event, words):
        return
    actor_class = ray.remote(max_concurrency=4, max_restarts=0)(ReplicaProcess)
    actors = {}
    for index, replica in enumerate(replicas):
        resources = dict(replica["resources"])
        options = {"num_cpus": resources["CPU"], "num_gpus": resources.get("GPU", 0)}
        if "memory" in resources:
            options["memory"] = resources["memory"]
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
        create = actor_class.options(scheduling_strategy=strategy, **options)
        actors[replica["name"]] = create.remote(plan["command"], replica["name"])
    addresses: dict[str, str] = {}
    for name, actor in actors.items():
        addresses[name] = ray.get(actor.choose_address.remote(list(addresses.values())))
    ray.get([actor.start.remote(addresses) for actor in actors.values()])
    emit(placed=addresses)
    relay(ray, actors, stop.event, plan["wait_seconds"])


if __name__ == "__main__":
    main()
