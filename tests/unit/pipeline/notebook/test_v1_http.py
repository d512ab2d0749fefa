from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.notebook.v1_http import UnkeptHttp

closed = threading.Event()


class ClosesIdleConnections(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 0.1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(f"{len(body):7}".encode())

    def finish(self) -> None:
        super().finish()
        self.connection.close()
        closed.set()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ClosesIdleConnections)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_succeeds_after_the_server_has_closed_the_connection(url: str) -> None:
    http = UnkeptHttp(proxy_info=None)
    for _ in range(3):
        closed.clear()
        _, content = http.request(url, "POST", body=b"x" * 1_000_000)
        assert int(content) == 1_000_000
        assert closed.wait(30)
    http.close()
