"""The one port of a team's stack that other machines reach: TLS, a token, and the stack's servers behind it.

`python -m pipeline.stack.gateway --home HOME --host HOST --port PORT` serves until SIGTERM. A connection
begins with a line of JSON (`token`, `want`). The answer is a line, and then, by what is wanted:

* `settings`: nothing more; the answer has what a worker needs, passwords too.
* `machine`: a line every few seconds, with the classifiers whenever those have changed. While it is open,
  the machine counts as joined, and its slots as the stack's.
* the name of a server: its bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pipeline.config import SHIPPED_CLASSIFIERS, Settings, classifier_files
from pipeline.stack.join_file import (
    LINE_BYTES,
    SILENT_SECONDS,
    JoinFile,
    join_file,
    notice_silence,
    own_versions,
    server_context,
)
from pipeline.stack.machines import Machine, write_machines
from pipeline.types import JsonDict

log = logging.getLogger("gateway")

ANSWER_SECONDS = 10  # for a handshake and the first line
BEAT_SECONDS = 1.0  # between two looks at the classifiers
LINES_APART = 5  # looks between two lines to a machine
PIECE = 2**16


def gateway_file(home: Path) -> Path:
    """Return the file that says what the gateway offers."""
    return home / "servers" / "gateway.json"


def read_offer(home: Path) -> JsonDict:
    """Return the settings of a worker, with the passwords that `graft up` has put into files."""
    value = json.loads(gateway_file(home).read_bytes())
    offer: JsonDict = value["settings"]
    for name, file in value["password_files"].items():
        offer[name] = Path(file).read_text(encoding="utf-8").strip() if file else ""
    return offer


def digest_of(offer: JsonDict) -> str:
    """Return the digest of a worker's settings: with others it must join again."""
    return hashlib.sha256(json.dumps(offer, sort_keys=True).encode()).hexdigest()


def read_classifiers(settings: Settings) -> dict[str, str]:
    """Return the text of each classifier that Graft does not ship, by the name of its file."""
    files: dict[str, str] = {}
    for path in classifier_files(settings):
        if path.parent != SHIPPED_CLASSIFIERS:
            with contextlib.suppress(OSError):
                files.setdefault(path.name, path.read_bytes().decode("utf-8", errors="replace"))
    return files


class Refused(Exception):
    """The other end may not have what it wants; `kind` says which check failed."""

    def __init__(self, kind: str, **details: Any) -> None:
        super().__init__(kind)
        self.answer = {"error": kind, **details}


class Gateway:
    """Answers connections.

    Args:
        home: Of the stack.
        settings: Which classifiers it has.
        own_slots: How many tasks the stack's own workers take at once.
    """

    def __init__(self, home: Path, settings: Settings, own_slots: int) -> None:
        self._home = home
        self._own_slots = own_slots
        self._settings = settings
        self._token = JoinFile.read(join_file(home)).token
        self._machines: dict[object, Machine] = {}
        self.note_machines()

    def note_machines(self) -> None:
        """Write who has joined."""
        write_machines(self._home, self._own_slots, tuple(self._machines.values()))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        notice_silence(writer.get_extra_info("socket"))
        try:
            request = json.loads(await asyncio.wait_for(reader.readline(), ANSWER_SECONDS))
            try:
                await self._serve(request, reader, writer)
            except Refused as refused:
                log.warning("%s: refused: %s", _peer(writer), refused)
                await send_line(writer, refused.answer)
        except (OSError, ValueError, KeyError, TypeError, TimeoutError, AttributeError) as error:
            log.info("%s: ended: %r", _peer(writer), error)
        finally:
            await close(writer)

    async def _serve(
        self, request: JsonDict, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not hmac.compare_digest(str(request["token"]).encode(), self._token.encode()):
            raise Refused("token")
        wanted = request["want"]
        if wanted in ("settings", "machine") and request["versions"] != own_versions():
            raise Refused("versions", versions=own_versions())
        if wanted == "settings":
            await send_line(writer, {"settings": read_offer(self._home)})
        elif wanted == "machine":
            if request["digest"] != digest_of(read_offer(self._home)):
                raise Refused("settings")
            machine = Machine(
                name=str(request["name"]),
                slots=int(request["slots"]),
                since=time.time(),
                serves=str(request["serves"]),
                certificate=str(request["certificate"]),
            )
            async with self._joined(machine):
                await self._tell(reader, writer)
        else:
            await self._forward(str(wanted), reader, writer)

    @contextlib.asynccontextmanager
    async def _joined(self, machine: Machine) -> AsyncIterator[None]:
        key = object()
        # One that was cut off comes back before its old connection has ended.
        self._machines = {old: each for old, each in self._machines.items() if each.name != machine.name}
        self._machines[key] = machine
        self.note_machines()
        log.info("%s has joined with %d slots", machine.name, machine.slots)
        try:
            yield
        finally:
            self._machines.pop(key, None)
            self.note_machines()
            log.info("%s has left", machine.name)

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send the classifiers whenever they have changed, and a line now and then, until the end."""
        leaving = asyncio.ensure_future(reader.read(1))
        last: dict[str, str] | None = None
        beats = 0
        try:
            while not leaving.done():
                files = await asyncio.to_thread(read_classifiers, self._settings)
                if files != last:
                    await send_line(writer, {"classifiers": files})
                    last = files
                elif beats % LINES_APART == 0:
                    await send_line(writer, {})
                beats += 1
                await asyncio.wait([leaving], timeout=BEAT_SECONDS)
        finally:
            leaving.cancel()

    async def _forward(self, wanted: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = json.loads(gateway_file(self._home).read_bytes())["targets"].get(wanted)
        if target is None:
            raise Refused("target")
        try:
            behind = await asyncio.open_connection("127.0.0.1", target)
        except OSError as error:
            raise Refused("target") from error
        await send_line(writer, {})
        await join_streams((reader, writer), behind)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def send_line(writer: asyncio.StreamWriter, value: JsonDict) -> None:
    """Send a line of JSON."""
    writer.write(json.dumps(value).encode() + b"\n")
    await writer.drain()


async def join_streams(first: Streams, second: Streams) -> None:
    """Copy bytes both ways until either end is over, then close both."""
    both = [
        asyncio.ensure_future(_copy(first[0], second[1])),
        asyncio.ensure_future(_copy(second[0], first[1])),
    ]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        await close(first[1])
        await close(second[1])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection; that of a host that is gone, too."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), SILENT_SECONDS)  # what is on its way arrives
    writer.transport.abort()


def _peer(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if peer else "?"


async def serve(home: Path, host: str, port: int, own_slots: int) -> None:
    """Serve until the process ends."""
    gateway = Gateway(home, Settings(), own_slots)
    server = await asyncio.start_server(
        gateway.answer,
        host,
        port,
        ssl=server_context(home),
        limit=LINE_BYTES,
        ssl_handshake_timeout=ANSWER_SECONDS,
    )
    log.info("other machines join at %s:%d", host, port)
    async with server:
        await server.serve_forever()


def main(words: list[str]) -> None:
    """Run the command line."""
    logging.basicConfig(format="[%(asctime)s] %(name)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a stranger's broken handshake is a traceback
    parser = argparse.ArgumentParser(prog="python -m pipeline.stack.gateway")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--own-slots", type=int, default=0)
    arguments = parser.parse_args(words)
    try:
        asyncio.run(serve(arguments.home, arguments.host, arguments.port, arguments.own_slots))
    except OSError as error:
        sys.exit(f"Cannot listen on {arguments.host}:{arguments.port}: {error.strerror}.")


if __name__ == "__main__":
    main(sys.argv[1:])
