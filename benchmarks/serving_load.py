"""A load generator that costs little: `python -m benchmarks.serving_load URL CLIENTS SECONDS KIND PICTURES`.

Each client is a thread with one connection, which sends requests made beforehand and reads no more of an
answer than it must. It prints one line of JSON: answers, latencies, and its own CPU seconds.
"""

from __future__ import annotations

import base64
import itertools
import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit


def body_of(picture: bytes, kind: str) -> bytes:
    """Return the body of a request with one picture, as v1 or as a plain server takes it."""
    text = base64.b64encode(picture).decode()
    value = {"instances": [{"inputs": {"b64": text}}]} if kind == "v1" else {"inputs": text}
    return json.dumps(value).encode()


def requests_of(url: str, kind: str, pictures: Path) -> list[bytes]:
    """Return whole HTTP requests, one for each picture; of several URLs, with commas, each gets its turn."""
    urls = itertools.cycle(urlsplit(each) for each in url.split(","))
    requests = []
    for path, parts in zip(sorted(pictures.rglob("*.jpg")), urls, strict=False):
        body = body_of(path.read_bytes(), kind)
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return requests


def read_answer(connection: socket.socket) -> bytes:
    """Read one HTTP answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(connection)
    head, _, rest = data.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    while len(rest) < size:
        rest += receive(connection)
    if b" 200 " not in head[:20] or b"outputs" not in rest:
        raise RuntimeError(f"the server answered {head[:80]!r} {rest[:200]!r}")
    return rest


def receive(connection: socket.socket) -> bytes:
    """Receive something.

    Raises:
        ConnectionError: at the end of the connection.
    """
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def client(
    requests: list[bytes], first: int, address: tuple[str, int], until: float, failures: list[str] | None
) -> list[float]:
    """Send requests one after the other; return how long each took. Failures are collected or raised."""
    latencies: list[float] = []
    number = first
    while time.perf_counter() < until:
        with socket.create_connection(address, timeout=120) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while (started := time.perf_counter()) < until:
                    connection.sendall(requests[number % len(requests)])
                    number += 1
                    read_answer(connection)
                    latencies.append(time.perf_counter() - started)
            except (OSError, RuntimeError) as error:
                if failures is None:
                    raise
                failures.append(str(error))
    return latencies


def main(
    url: str, clients: int, seconds: float, kind: str, pictures: Path, *, count_failures: bool = False
) -> None:
    """Load a server and print its measurements; a failed request is counted, or an error."""
    requests, parts = requests_of(url, kind, pictures), urlsplit(url)
    failures: list[str] | None = [] if count_failures else None
    address = (parts.hostname or "", parts.port or 80)
    cpu, started = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        running = [
            pool.submit(client, requests, number * 7, address, started + seconds, failures)
            for number in range(clients)
        ]
    latencies = sorted(latency for each in running for latency in each.result())
    result = {
        "count": len(latencies),
        "wall": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "p50": latencies[len(latencies) // 2] * 1000,
        "p99": latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))] * 1000,
        "max": latencies[-1] * 1000,
        "failed": len(failures or ()),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(
        *(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4], Path(sys.argv[5])),
        count_failures="--count-failures" in sys.argv,
    )
