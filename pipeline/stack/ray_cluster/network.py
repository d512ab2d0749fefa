"""The network of a Ray cluster of this machine, and the only way into it.

Run as `python network.py PORT ADDRESS PLACE`. It listens on 127.0.0.1:PORT of this machine, then enters a
network namespace of its own, which has no link to any other, and makes a bridge there for the hosts. What
comes in at the port goes to the dashboard, ADDRESS:PLACE of the new network. Nothing goes the other way: no
address of this machine, or of what is beyond it, is in that network. It imports nothing of Graft.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import subprocess
import sys

NEW_NETWORK = 0x40000000  # CLONE_NEWNET
CHUNK_BYTES = 1 << 16
OWN_ADDRESS = "10.77.0.254/24"


def enter_new_network() -> None:
    """Give this process a network of its own, with a bridge.

    Raises:
        OSError: if the kernel refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NETWORK):
        raise OSError(ctypes.get_errno(), f"a network namespace: {os.strerror(ctypes.get_errno())}")
    for words in (
        "link set lo up",
        "link add hosts type bridge",
        f"address add {OWN_ADDRESS} dev hosts",
        "link set hosts up",
    ):
        subprocess.run(["ip", *words.split()], check=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


async def serve(port: int, address: str, place: int) -> None:
    """Listen on this machine, enter the new network, and pass on what comes, for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(address, place)
        except OSError:  # the head is not there
            writer.close()
            return
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        inner_writer.close()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)  # a socket stays in its network
    enter_new_network()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
