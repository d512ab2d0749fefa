"""The program of a job on Ray that looks for what it must not reach; it prints what it found as JSON.

It gets one argument, a JSON object:
    files      paths that it tries to read
    sockets    paths of Unix sockets that it tries to connect to
    addresses  [host, port] pairs that it tries to connect to
    dashboard  URL of Ray's dashboard as the job reaches it
    secrets_reversed  texts, written backwards, that it looks for in the environments of all processes
"""

import json
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path


def attempt(action):
    """Return what an action gives; why it failed, if it did."""
    try:
        return {"reached": True, "what": str(action())[:200]}
    except Exception as error:
        return {"reached": False, "what": repr(error)[:200]}


def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(3)
        connection.connect(address)
        return "connected"


def ask(url):
    try:
        return urllib.request.urlopen(url, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


def environments():
    """Return the environment of every process that it sees and may look at."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "environ").read_text(errors="replace")
        except OSError:
            continue


def main(text):
    asked = json.loads(text)
    seen = list(environments())
    report = {
        "files": {path: attempt(lambda path=path: Path(path).read_text()) for path in asked["files"]},
        "sockets": {
            path: attempt(lambda path=path: connect(socket.AF_UNIX, path)) for path in asked["sockets"]
        },
        "addresses": {
            f"{host}:{port}": attempt(lambda host=host, port=port: connect(socket.AF_INET, (host, port)))
            for host, port in asked["addresses"]
        },
        "dashboard": attempt(lambda: ask(asked["dashboard"] + "/api/jobs/")),
        "submission": attempt(
            lambda: ask(
                urllib.request.Request(
                    asked["dashboard"] + "/api/jobs/",
                    data=b'{"entrypoint": "true"}',
                    headers={"Content-Type": "application/json"},
                )
            )
        ),
        "environments": len(seen),
        "num_secrets": sum(word[::-1] in text for word in asked["secrets_reversed"] for text in seen),
        "network": socket.if_nameindex(),
    }
    sys.stdout.write(f"REPORT {json.dumps(report)}\n")


main(sys.argv[1])
