"""What all hosts of a test reach: `python -m tests.e2e.hosts_servers site|s3 HOST [LATENCY_SECONDS COUNT]`.

Prints a port, then serves until killed: a site of different pictures at `/N.jpg`, which says at `/clients`
how many each address has got; or an S3-compatible store.
"""

from __future__ import annotations

import asyncio
import io
import json
import socketserver
import sys
from collections import Counter

import numpy as np
from PIL import Image, ImageFilter

from tests.fakes import s3

SIDE = 160


def make_jpeg(number: int) -> bytes:
    """Return a JPEG that is like no other."""
    levels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)
    image = Image.fromarray(levels).resize((SIDE, SIDE)).filter(ImageFilter.GaussianBlur(2))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def tell(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


async def serve_site(host: str, latency: float, count: int) -> None:
    """Answer until killed, each request after the latency."""
    jpegs = [make_jpeg(number) for number in range(count)]
    clients: Counter[str] = Counter()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode().strip("/")
                kind, body = "application/json", json.dumps(clients).encode()
                if path.endswith(".jpg"):
                    clients[writer.get_extra_info("peername")[0]] += 1
                    kind, body = "image/jpeg", jpegs[int(path.removesuffix(".jpg")) % count]
                    await asyncio.sleep(latency)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, 0, backlog=512)
    tell(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


class Store(s3.FakeS3):
    """The store, at an address that other hosts reach."""

    def server_bind(self) -> None:
        self.server_address = (sys.argv[2], 0)
        socketserver.TCPServer.server_bind(self)


def main() -> None:
    if sys.argv[1] == "site":
        asyncio.run(serve_site(sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
    s3.PAGE = 1000
    store = Store()
    tell(store.server_address[1])
    store.serve_forever()


if __name__ == "__main__":
    main()
