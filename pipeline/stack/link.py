"""The other end of the gateway: on a machine that has joined, its servers' ports are those of the stack.

`python -m pipeline.stack.link --home HOME` listens on 127.0.0.1 at the ports that the stack has, and carries
what comes to the gateway. Its first connection tells the gateway that the machine is there, and brings the
classifiers; without it nothing is carried, so that a worker with outdated settings takes no task.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import ssl
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pipeline.errors import StackError
from pipeline.stack.gateway import Streams, close, join_streams, send_line
from pipeline.stack.join_file import (
    LINE_BYTES,
    SILENT_SECONDS,
    JoinFile,
    client_context,
    join_file,
    notice_silence,
    own_versions,
    parse_address,
)
from pipeline.stack.state import LOOPBACK, write_private
from pipeline.types import JsonDict

log = logging.getLogger("link")

CONNECT_SECONDS = 10
PAUSE_SECONDS = 1.0  # before the next try to reach the gateway
RECORD = ".from_stack.json"  # in the directory of classifiers: the names of those that the stack sent


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """What a link does.

    Args:
        address: HOST:PORT of the gateway.
        name: Of this machine and its home.
        slots: How many tasks it takes at once.
        digest: Of the settings that its worker was started with.
        targets: The port of each server.
        serves: HOST:PORT where this machine answers predictions; empty if it does not.
        certificate: What it answers them with, as PEM.
    """

    address: str
    name: str
    slots: int
    digest: str
    targets: dict[str, int]
    serves: str = ""
    certificate: str = ""

    @classmethod
    def read(cls, home: Path) -> Self:
        """Read it from a home."""
        return cls(**json.loads(spec_file(home).read_bytes()))

    def write(self, home: Path) -> None:
        """Write it to a home."""
        write_private(spec_file(home), asdict(self))


def spec_file(home: Path) -> Path:
    """Return the file with what the link of a home does."""
    return home / "servers" / "link.json"


def problem_file(home: Path) -> Path:
    """Return the file that says why the link has no connection; empty if it has one."""
    return home / "servers" / "link.problem"


def link_problem(home: Path) -> str | None:
    """Return why the link of a home has no connection, or None."""
    try:
        return problem_file(home).read_text(encoding="utf-8").strip() or None
    except OSError:
        return "it has not started"


async def connect(address: str, file: JoinFile, request: JsonDict) -> tuple[JsonDict, Streams]:
    """Open a connection of the gateway; return its answer and the open connection.

    Raises:
        StackError: if there is no answer, or it is a refusal; with what to do.
    """
    host, port = parse_address(address)
    writer = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            context = client_context(file)
            reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=LINE_BYTES)
            notice_silence(writer.get_extra_info("socket"))
            await send_line(writer, {"token": file.token, **request})
            answer = json.loads(await reader.readline())
    except (OSError, TimeoutError, ValueError) as error:
        if writer is not None:
            writer.transport.abort()
        raise StackError(_explain(address, error), address=address) from error
    if kind := answer.get("error"):
        await close(writer)
        raise StackError(_explain_refusal(address, str(kind), answer), address=address)
    return answer, (reader, writer)


def _explain(address: str, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"What answers at {address} has another certificate than the join file. Copy "
            "$GRAFT_HOME/servers/join.json from that stack's machine again; if it is the same, something "
            "stands between both machines."
        )
    if isinstance(error, (ssl.SSLError, ValueError, ConnectionResetError)):
        return f"What answers at {address} is no gateway of Graft: `graft status` there names the address."
    reason = "no answer" if isinstance(error, TimeoutError) else (getattr(error, "strerror", "") or error)
    return (
        f"No team's stack answers at {address} ({reason}). Start it on that machine with `graft up --profile "
        "team --address HOST`, and let its port through the firewall."
    )


def _explain_refusal(address: str, kind: str, answer: JsonDict) -> str:
    if kind == "token":
        return (
            f"The stack at {address} refuses the token of the join file. Copy $GRAFT_HOME/servers/join.json "
            "from that stack's machine again."
        )
    if kind == "versions":
        theirs, ours = dict(answer["versions"]), own_versions()
        pairs = [
            f"{name} {theirs[name]} there, {ours[name]} here" for name in ours if theirs[name] != ours[name]
        ]
        return f"The stack at {address} has other versions: {'; '.join(pairs)}. Install the same here."
    if kind == "settings":
        return f"The settings of the stack at {address} have changed: run `graft join {address}` again."
    return f"A server of the stack at {address} does not answer: `graft doctor` there says which."


class Link:
    """Carries connections of this machine to the gateway.

    Args:
        home: Of this machine.
        spec: What to carry.
        file: The token and the certificate.
    """

    def __init__(self, home: Path, spec: LinkSpec, file: JoinFile) -> None:
        self._home, self._spec, self._file = home, spec, file
        self._is_connected = False

    async def run(self) -> None:
        """Carry until the process ends."""
        self._note("not connected yet")
        async with AsyncExitStack() as stack:
            for name, port in self._spec.targets.items():
                await stack.enter_async_context(await self._listen(name, port))
            while True:
                await self._stay_joined()
                await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self, name: str, port: int) -> asyncio.Server:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._carry(name, (reader, writer))
            except StackError as error:
                log.warning("%s: %s", name, error)
            finally:
                await close(writer)

        return await asyncio.start_server(answer, LOOPBACK, port)

    async def _carry(self, name: str, here: Streams) -> None:
        if self._is_connected:
            _, there = await connect(self._spec.address, self._file, {"want": name})
            await join_streams(here, there)

    async def _stay_joined(self) -> None:
        """Tell the gateway that this machine is there, until the connection ends."""
        spec = self._spec
        request = {
            "want": "machine",
            "versions": own_versions(),
            **{name: getattr(spec, name) for name in ("name", "slots", "digest", "serves", "certificate")},
        }
        try:
            line, (reader, writer) = await connect(spec.address, self._file, request)
        except StackError as error:
            self._note(str(error))
            return
        try:
            while True:
                if "classifiers" in line:
                    write_classifiers(self._home / "classifiers", line["classifiers"])
                self._note("")
                line = json.loads(await asyncio.wait_for(reader.readline(), SILENT_SECONDS))
        except StackError as error:
            self._note(str(error))
        except (OSError, ValueError, TimeoutError):
            self._note(f"The connection to {spec.address} is lost.")
        finally:
            await close(writer)

    def _note(self, problem: str) -> None:
        """Write why there is no connection, where that is news."""
        self._is_connected = not problem
        if link_problem(self._home) == (problem or None):
            return
        log.info("%s", problem or f"joined {self._spec.address}")
        _replace(problem_file(self._home), problem.encode("utf-8"))


def write_classifiers(directory: Path, files: dict[str, Any]) -> None:
    """Make a directory have these files, each replaced whole; remove those that only an earlier call wrote.

    Raises:
        StackError: if a file of the same name is there that no call wrote.
    """
    directory.mkdir(parents=True, exist_ok=True)
    record = directory / RECORD
    earlier = set(json.loads(record.read_bytes())) if record.exists() else set()
    wanted = {Path(name).name: str(text).encode("utf-8") for name, text in files.items()}
    for name in sorted(wanted.keys() - earlier):
        if (directory / name).exists() and (directory / name).read_bytes() != wanted[name]:
            raise StackError(
                f"{directory / name} is not of the stack, which has a file of that name: move it away."
            )
    _replace(record, json.dumps(sorted(earlier | wanted.keys())).encode())  # before there is any of them
    for name, data in wanted.items():
        if not (directory / name).exists() or (directory / name).read_bytes() != data:
            _replace(directory / name, data)
    for name in earlier - wanted.keys():
        (directory / Path(name).name).unlink(missing_ok=True)
    _replace(record, json.dumps(sorted(wanted)).encode())


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(data)
    os.replace(partial, path)


def ask_settings(address: str, file: JoinFile) -> JsonDict:
    """Return the settings that a stack gives to workers, passwords among them.

    Raises:
        StackError: if no stack answers, or it refuses.
    """

    async def ask() -> JsonDict:
        answer, (_, writer) = await connect(address, file, {"want": "settings", "versions": own_versions()})
        await close(writer)
        return answer

    settings: JsonDict = asyncio.run(ask())["settings"]
    return settings


def main(words: list[str]) -> None:
    """Run the command line."""
    logging.basicConfig(format="[%(asctime)s] %(name)s %(levelname)s %(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser(prog="python -m pipeline.stack.link")
    parser.add_argument("--home", type=Path, required=True)
    home = parser.parse_args(words).home
    link = Link(home, LinkSpec.read(home), JoinFile.read(join_file(home)))
    with suppress(KeyboardInterrupt):
        asyncio.run(link.run())


if __name__ == "__main__":
    main(sys.argv[1:])
