"""What jobs, builds of sdists and models try in order to get out: each row of the table in docs/security.md.

One job and one build run all attempts, first in the sandbox and then without it: what the table calls held is
refused in the sandbox, and what it calls open without one is done there, so that no attempt fails by itself.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pipeline.engine.sandbox.landlock import SCOPE_ABI, landlock_abi
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.sandbox.system import source_directory
from pipeline.engine.serving.limits import TENSORFLOW
from pipeline.engine.serving.pool import worker_environment, worker_policy
from tests.fakes.clock import wait_for
from tests.integration.engine_process import EngineProcess
from tests.packages import sdist

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs" / "security.md").read_text().split("### What is held")[1]
ROWS = {
    row[0]: row[1:]
    for row in re.findall(r"^\| ([^|`]+?) \| (held|open)(?: \(.+?\))? \| (held|open) \|", TABLE, re.M)
}

READ, LIST, APPEND, PLANT = "open({}).read()", "os.listdir({})", "open({}, 'a').close()", "plant({})"
ESCAPES = {
    "read the stack's secrets": READ.format("home + '/secrets.json'"),
    "read the engine's database": "open(home + '/engine/engine.db', 'rb').read()",
    "list Airflow's directory": LIST.format("home + '/airflow'"),
    "read the log of another job": READ.format("other_job + '/log.txt'"),
    "write into another job's directory": PLANT.format("other_job + '/work/planted'"),
    "list all jobs": LIST.format("home + '/engine/jobs'"),
    "forge the own exit record": PLANT.format("job + '/exit.json.forged'"),
    "replace the own log by a symbolic link": "link(job + '/link')",
    "read through a symbolic link": "os.symlink(home + '/secrets.json', tmp + '/s'); open(tmp + '/s').read()",
    "read through a hard link": "os.link(home + '/secrets.json', tmp + '/h'); open(tmp + '/h').read()",
    "read through the root of the engine": READ.format("f'/proc/{engine}/root{home}/secrets.json'"),
    "leave a symbolic link in a bucket": "link(bucket + '/jobs/escapes/link')",
    "move a served model away": "move(bucket + '/models/decoy', tmp + '/decoy')",
    "overwrite a served model": APPEND.format("bucket + '/models/decoy/file'"),
    "add to the caches": PLANT.format("bucket + '/features/planted'"),
    "read a bucket that is not named": LIST.format("home + '/buckets/private'"),
    "read the passwords of the machine": READ.format("'/etc/shadow'"),
    "list the home of the user": LIST.format("user_home"),
    "write to the shared temporary directory": PLANT.format("'/tmp/escape-%d' % os.getpid()"),
    "change the code of the engine": APPEND.format("code + '/__init__.py'"),
    "change the installed packages": PLANT.format("libraries + '/planted.pth'"),
    "plant a job of cron": PLANT.format("'/etc/cron.d/graft-escape'"),
    "read the environment of the engine": "open(f'/proc/{engine}/environ').read()",
    "read the environment of the supervisor": "open(f'/proc/{supervisor}/environ').read()",
    "read the memory of the engine": "open(f'/proc/{engine}/mem', 'rb').close()",
    "trace the engine": "check(libc.ptrace(0x4206, engine, 0, 0))",
    "copy memory out of the engine": "check(libc.process_vm_readv(engine, iov, 1, iov, 1, 0), fine=14)",
    "signal the engine": "os.kill(engine, 0)",
    "signal the supervisor": "os.kill(supervisor, 0)",
    "signal another job": "os.kill(other, 0)",
    "reach an abstract socket": "socket.socket(socket.AF_UNIX).connect(abstract)",
    "mount a file system": "mount()",
    "make a device": "os.mknod(tmp + '/device', 0o20600, os.makedev(1, 3))",
    "become another user": "pid = os.fork() or os._exit(become(65534)); check(-os.waitpid(pid, 0)[1])",
    "move to another control group": APPEND.format("cgroup"),
    "look at names, sizes and times": "os.stat(home + '/secrets.json')",
    "change the mode of a file": "os.chmod(home + '/secrets.json', 0o600)",
    "read command lines": READ.format("f'/proc/{engine}/cmdline'"),
    "change limits of the engine": "resource.prlimit(engine, resource.RLIMIT_CORE)",
    "reach a socket by its path": "socket.socket(socket.AF_UNIX).connect(home + '/socket')",
    "read the environment of another job": "open(f'/proc/{other}/environ').read()",
    "open the descriptors of the engine": "os.readlink(f'/proc/{engine}/fd/0')",
    "open by io_uring": "uring(home + '/secrets.json')",
    "inherit a descriptor": "inherited()",
    "read the log of a model": "open(home + '/engine/logs/planted.log').read()",
    "list the disks of the machine": LIST.format("'/dev'"),
    "reach ports of this machine": "socket.create_connection(('127.0.0.1', port), 5).close()",
}
HELD_FOR_MODELS = ("reach ports of this machine",)
NEEDS_ROOT = (
    *("read the passwords of the machine", "plant a job of cron", "mount a file system", "make a device"),
    *("become another user", "move to another control group", "trace the engine"),
    *("copy memory out of the engine", "read the memory of the engine"),
)
PROBE = """
import ctypes, json, mmap, os, resource, socket, struct, tempfile
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
iov = (ctypes.c_size_t * 2)(0, 8)

def check(result, fine=0):
    number = ctypes.get_errno()
    if result < 0 and number != fine:
        raise OSError(number, os.strerror(number))

def become(user):
    try:
        os.setuid(user)
    except OSError:
        return 1
    return 0

def own_directory():
    return tempfile.mkdtemp(dir=os.environ.get("TMPDIR") or os.getcwd())

def plant(path):
    open(path, "a").close()
    os.unlink(path)

def link(path):
    os.symlink("/etc/passwd", path)
    os.unlink(path)

def move(source, target):
    os.rename(source, target)
    os.rename(target, source)

def uring(path):
    parameters = bytearray(120)
    ring = libc.syscall(425, 4, (ctypes.c_char * 120).from_buffer(parameters))
    if ring < 0:  # this system has none
        return open(path).read()
    numbers = struct.unpack("30I", parameters)
    queue = mmap.mmap(ring, numbers[16] + 4 * numbers[0])
    entries = mmap.mmap(ring, 64 * numbers[0], offset=0x10000000)
    results = mmap.mmap(ring, numbers[25] + 16 * numbers[1], offset=0x8000000)
    name = ctypes.create_string_buffer(path.encode())
    entries[:40] = struct.pack("<BBHiQQIIQ", 18, 0, 0, -100, 0, ctypes.addressof(name), 0, 0, 0)
    queue[numbers[16] : numbers[16] + 4] = struct.pack("I", 0)
    queue[numbers[11] : numbers[11] + 4] = struct.pack("I", 1)
    check(libc.syscall(426, ring, 1, 1, 1, None, ctypes.c_size_t(0)))
    os.close(ring)
    result = struct.unpack_from("<i", results, numbers[25] + 8)[0]
    if result < 0:
        raise OSError(-result, os.strerror(-result))

def descriptors():
    targets = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # that of the listing itself
        if int(name) > 2:
            targets.append(target)
    return targets

INHERITED = descriptors()

def inherited():
    if not INHERITED:
        raise OSError("none is open")

def mount():
    place = own_directory().encode()
    check(libc.mount(b"none", place, b"tmpfs", 0, None))
    libc.umount(place)

def supervisor():
    pid = os.getpid()
    while b"backends.supervisor" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid

def attempt_all(context, codes):
    names = {"supervisor": 0, **context, "tmp": own_directory()}
    names = {**globals(), **names, "supervisor": names["supervisor"] or supervisor()}
    results = {}
    for name, code in codes.items():
        try:
            exec(code, names)
            results[name] = "open"
        except OSError as error:
            results[name] = "held"
    return results
"""
SETUP = """
import json
from pathlib import Path
from setuptools import setup
exec(Path("probe.py").read_text())
results = attempt_all(*json.loads(Path("attempts.json").read_text()))
Path("escapes/built.json").write_text(json.dumps(results))
setup(name="escapes", version="1", packages=["escapes"], package_data={"escapes": ["*.json", "probe.py"]})
"""
TASK = """
import json, time
from pathlib import Path
folder = Path(__file__).parent
exec((folder / "probe.py").read_text())
results = attempt_all(*json.loads((folder / "attempts.json").read_text()))
built = json.loads((folder / "built.json").read_text())
print("results " + json.dumps({"job": results, "build": built}), flush=True)
"""


AS_MODEL = """
import json, sys
print("results " + json.dumps(attempt_all(*json.loads(sys.argv[1]))), flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A home full of things to steal, with an engine and the results of all attempts in it."""

    engine: EngineProcess
    results: dict[str, dict[str, str]]


def attempts(engine: EngineProcess, other: int, *, supervisor: int = 0) -> str:
    home = engine.home
    context = {
        "home": str(home),
        "user_home": str(Path.home()),
        "bucket": str(home / "buckets" / "graft"),
        "job": str(home / "engine" / "jobs" / "escapes"),
        "other_job": str(home / "engine" / "jobs" / "other"),
        "engine": engine.pid,
        "other": other,
        "supervisor": supervisor,
        "port": engine.port,
        "abstract": f"\0graft-{engine.port}",
        "code": str(ROOT / "pipeline"),
        "libraries": str(Path(psutil.__file__).parents[1]),
        "cgroup": next((str(path) for path in Path("/sys/fs/cgroup").rglob("cgroup.procs")), "/nowhere"),
    }
    return json.dumps([context, ESCAPES])


def furnish(home: Path) -> None:
    for name in ("airflow", "buckets/private", "buckets/graft/models/decoy", "buckets/graft/features"):
        (home / name).mkdir(parents=True)
    (home / "engine" / "logs").mkdir(parents=True)
    (home / "engine" / "logs" / "planted.log").write_text("what a model was asked")
    (home / "secrets.json").write_text("secret")
    (home / "secrets.json").chmod(0o600)


@pytest.fixture(scope="module", params=["auto", "off"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if landlock_abi() < SCOPE_ABI:
        pytest.skip("needs Landlock of Linux 6.12")
    home = tmp_path_factory.mktemp("h")
    furnish(home)
    with EngineProcess(home, sandbox=request.param, training_slots=2) as engine:
        engine.start()
        with socket.socket(socket.AF_UNIX) as path, socket.socket(socket.AF_UNIX) as abstract:
            path.bind(str(home / "socket"))
            abstract.bind(f"\0graft-{engine.port}")
            for listener in (path, abstract):
                listener.listen()
            yield World(engine=engine, results=run_attempts(engine))


def run_attempts(engine: EngineProcess) -> dict[str, dict[str, str]]:
    create = engine.client().jobs().create
    create(parent="projects/local", body=engine.training("other", engine.home / "gate")).execute()
    engine.wait_job("other", "RUNNING")
    log = engine.home / "engine" / "jobs" / "other" / "log.txt"
    wait_for(lambda: "started" in log.read_text())
    other = find_program("tiny.task", str(engine.home / "gate"))
    probe = {"probe.py": PROBE, "attempts.json": attempts(engine, other)}
    files = {"setup.py": SETUP, "escapes/__init__.py": "", "escapes/task.py": TASK, **probe}
    files |= {f"escapes/{name}": text for name, text in probe.items()}
    engine.storage.write_bytes("gs://graft/escapes-1.tar.gz", sdist(files, folder="escapes-1"))
    value = {
        "packageUris": ["gs://graft/escapes-1.tar.gz"],
        "pythonModule": "escapes.task",
        "jobDir": "gs://graft/jobs/escapes",
        "region": "local",
    }
    create(parent="projects/local", body={"jobId": "escapes", "trainingInput": value}).execute()
    engine.wait_job("escapes", "SUCCEEDED")
    text = (engine.home / "engine" / "jobs" / "escapes" / "log.txt").read_text()
    results: dict[str, dict[str, str]] = json.loads(text.split("results ")[1].splitlines()[0])
    supervisor = psutil.Process(other).parent()
    assert supervisor is not None
    results["model"] = attempt_as_model(engine, attempts(engine, other, supervisor=supervisor.pid))
    return results


def attempt_as_model(engine: EngineProcess, context: str) -> dict[str, str]:
    """Run the attempts as a model would whose graph can run any code: in the sandbox of its worker."""
    model = engine.home / "engine" / "models" / "foreign" / "v1.1"
    scratch = engine.home / "engine" / "worker-scratch" / "probe"
    for folder in (model, scratch):
        folder.mkdir(parents=True)
    sandbox = Sandbox.detect(engine.settings["GRAFT_ENGINE_SANDBOX"])
    source, environ = source_directory(engine.home / "engine"), dict(os.environ)
    policy = worker_policy(model, scratch, source, environ)
    command = sandbox.wrap(policy, [sys.executable, "-P", "-c", PROBE + AS_MODEL, context])
    environ = worker_environment(environ, source, TENSORFLOW) | {"TMPDIR": str(scratch)}
    run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, cwd=model)
    assert run.returncode == 0, run.stderr
    results: dict[str, str] = json.loads(run.stdout.split("results ")[1])
    return results


def find_program(*words: str) -> int:
    """Return the process with these words on its command line."""
    for process in psutil.process_iter(["cmdline"]):
        if set(words) <= set(process.info["cmdline"] or ()):
            return int(process.pid)
    raise AssertionError(words)


def test_every_attempt_is_a_row_of_the_table() -> None:
    assert [name for name in ESCAPES if name not in ROWS] == []
    assert len([name for name in ESCAPES if ROWS[name][0] == "held"]) >= 30


@pytest.mark.parametrize("who", ["job", "build", "model"])
@pytest.mark.parametrize("name", ESCAPES)
def test_the_table_says_what_happens(world: World, name: str, who: str) -> None:
    is_off = world.engine.settings["GRAFT_ENGINE_SANDBOX"] == "off"
    if is_off and os.getuid() and name in NEEDS_ROOT:
        pytest.skip("only root could do it at all")
    expected = ROWS[name][int(is_off)]
    if who == "model" and not is_off and name in HELD_FOR_MODELS:
        expected = "held"
    assert world.results[who][name] == expected
