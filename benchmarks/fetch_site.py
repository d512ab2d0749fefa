"""A site of many pictures in a process of its own: `python -m benchmarks.fetch_site LATENCY_SECONDS`.

Prints its port, then serves `/N.jpg` for any N: a JPEG of 320 x 320 pixels, with other bytes for each N.
"""

from __future__ import annotations

import asyncio
import io
import sys

import numpy as np
from PIL import Image, ImageFilter

VARIANTS = 32
SIDE = 320


def make_jpegs() -> list[bytes]:
    """Return a few JPEGs with the detail of photographs."""
    made = []
    for seed in range(VARIANTS):
        levels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        image = Image.fromarray(levels).filter(ImageFilter.GaussianBlur(2))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made


def with_comment(jpeg: bytes, text: bytes) -> bytes:
    """Return the JPEG with a comment: other bytes, the same picture."""
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


async def serve(latency: float) -> None:
    """Answer until killed."""
    jpegs = make_jpegs()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                number = int(head.split(b" ", 2)[1].strip(b"/").removesuffix(b".jpg"))
                keeps = b"connection: close" not in head.lower()
                if latency:
                    await asyncio.sleep(latency)
                body = with_comment(jpegs[number % VARIANTS], b"%d" % number)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n" % len(body)
                    + b'ETag: "%d"\r\n' % number
                    + (b"\r\n" if keeps else b"Connection: close\r\n\r\n")
                    + body
                )
                await writer.drain()
                if not keeps:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
