"""A real process under Landlock tries what it may and may not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.sandbox import landlock, system
from pipeline.engine.sandbox.landlock import END, MIN_ABI, SCOPE_ABI, landlock_abi, restrict
from pipeline.engine.sandbox.policy import Policy

needs_landlock = pytest.mark.skipif(landlock_abi() < MIN_ABI, reason="this kernel has no Landlock")
PROBE = """
import json, os, socket, sys
root, results = sys.argv[1], {}
def attempt(name, code):
    try:
        exec(code)
        results[name] = "done"
    except OSError as error:
        results[name] = "refused"
for name, code in json.loads(sys.argv[2]).items():
    attempt(name, code)
print(json.dumps(results))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("own", "given", "cache", "secret"):
        (tmp_path / name).mkdir()
    (tmp_path / "cache" / "old").write_text("old")
    (tmp_path / "secret" / "key").write_text("key")
    return tmp_path


def policy(root: Path, **changes: Any) -> Policy:
    values: dict[str, Any] = {
        "read": (*system.LIBRARIES, *system.interpreter()),
        "write": (str(root / "own"),),
        "output": (str(root / "given"),),
        "fill": (str(root / "cache"),),
        "device": system.devices(),
    }
    return Policy(**{**values, **changes})


def attempt(root: Path, policy: Policy, **codes: str) -> dict[str, str]:
    """Run statements in one restricted process; say of each whether it was done or refused."""
    command = [sys.executable, "-I", "-S", landlock.__file__, *policy.arguments(), END]
    command += [sys.executable, "-I", "-S", "-c", PROBE, str(root), json.dumps(codes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    results: dict[str, str] = json.loads(done.stdout)
    return results


@needs_landlock
class TestFiles:
    def test_what_is_not_named_cannot_be_read_listed_changed_or_linked(self, root: Path) -> None:
        results = attempt(
            root,
            policy(root),
            read="open(root + '/secret/key')",
            list="os.listdir(root + '/secret')",
            write="open(root + '/secret/key', 'a')",
            truncate="os.truncate(root + '/secret/key', 0)",
            unlink="os.unlink(root + '/secret/key')",
            hard_link="os.link(root + '/secret/key', root + '/own/link')",
            rename="os.rename(root + '/secret/key', root + '/own/key')",
            through_link="os.symlink(root + '/secret/key', root + '/own/s'); open(root + '/own/s')",
        )
        assert set(results.values()) == {"refused"}

    def test_an_output_directory_takes_files_and_no_links_or_pipes(self, root: Path) -> None:
        results = attempt(
            root,
            policy(root),
            file="open(root + '/given/file', 'w').close()",
            folder="os.mkdir(root + '/given/folder')",
            replace="os.rename(root + '/given/file', root + '/given/folder/file')",
            unlink="os.unlink(root + '/given/folder/file')",
            symlink="os.symlink('/etc/shadow', root + '/given/link')",
            moved_symlink="os.symlink('/x', root + '/own/y'); os.rename(root + '/own/y', root + '/given/y')",
            pipe="os.mkfifo(root + '/given/pipe')",
        )
        assert [name for name, result in results.items() if result == "refused"] == [
            *("symlink", "moved_symlink", "pipe")
        ]

    def test_a_cache_is_filled_and_what_is_in_it_stays_as_it_is(self, root: Path) -> None:
        results = attempt(
            root,
            policy(root),
            part="open(root + '/given/part', 'w').close()",
            folder="os.makedirs(root + '/cache/a/b')",
            link="os.link(root + '/given/part', root + '/cache/a/b/new')",
            read="open(root + '/cache/old')",
            overwrite="open(root + '/cache/old', 'w')",
            replace="os.rename(root + '/given/part', root + '/cache/old')",
            unlink="os.unlink(root + '/cache/old')",
            hard_link="os.link(root + '/cache/old', root + '/given/old')",
        )
        done = [name for name, result in results.items() if result == "done"]
        assert done == ["part", "folder", "link", "read"]
        assert (root / "cache" / "old").read_text() == "old"

    def test_a_shared_directory_is_used_by_name_and_not_listed(self, root: Path) -> None:
        results = attempt(
            root,
            policy(root, shared=(str(root / "secret"),)),
            make="open(root + '/secret/semaphore', 'w').close()",
            list="os.listdir(root + '/secret')",
        )
        assert results == {"make": "done", "list": "refused"}


@needs_landlock
class TestProcesses:
    def test_others_are_neither_read_nor_traced(self, root: Path) -> None:
        parent = os.getpid()
        results = attempt(
            root,
            policy(root),
            environ=f"open('/proc/{parent}/environ')",
            memory=f"open('/proc/{parent}/mem')",
            tree=f"os.listdir('/proc/{parent}/root')",
            files=f"open('/proc/{parent}/fd/0')",
        )
        assert set(results.values()) == {"refused"}

    @pytest.mark.skipif(landlock_abi() < SCOPE_ABI, reason="signals are scoped from Linux 6.12 on")
    def test_others_get_no_signal_and_own_children_do(self, root: Path) -> None:
        results = attempt(
            root,
            policy(root),
            other=f"os.kill({os.getpid()}, 0)",
            own="pid = os.fork() or os._exit(__import__('time').sleep(9) or 0); os.kill(pid, 9)",
        )
        assert results == {"other": "refused", "own": "done"}

    def test_no_capability_is_left_even_to_root(self, root: Path) -> None:
        code = "assert 'CapEff:\\t0000000000000000' in open('/proc/self/status').read()"
        assert attempt(root, policy(root), capabilities=code) == {"capabilities": "done"}


@needs_landlock
def test_without_network_no_port_of_this_machine_is_reached(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        assert attempt(root, policy(root), tcp=code) == {"tcp": "done"}
        assert attempt(root, policy(root, has_network=False), tcp=code) == {"tcp": "refused"}


@needs_landlock
def test_a_forked_child_restricts_itself(root: Path) -> None:
    pid = os.fork()
    if not pid:
        restrict([("read", path) for path in policy(root).read], has_network=True)
        os._exit(0 if _is_refused(root / "secret" / "key") else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert (root / "secret" / "key").read_text() == "key"


def _is_refused(path: Path) -> bool:
    try:
        path.read_text()
    except PermissionError:
        return True
    return False


@needs_landlock
def test_a_path_of_any_characters_allows_nothing_but_itself(root: Path) -> None:
    """A client names its job_dir: a part of the name must not become a rule, or the end of the rules."""
    strange = root / f"given\nread={root}\n-- " / "=x"
    strange.mkdir(parents=True)
    results = attempt(
        root,
        policy(root, output=(str(strange),)),
        own=f"open({str(strange)!r} + '/file', 'w').close()",
        secret="open(root + '/secret/key')",
    )
    assert results == {"own": "done", "secret": "refused"}


def test_the_launcher_imports_next_to_nothing() -> None:
    """Each program of a job starts behind it: json and dataclasses took longer than the interpreter."""
    code = f"import sys; sys.path.append({str(Path(landlock.__file__).parent)!r}); import landlock; "
    code += "print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "ctypes" in loaded
    assert not loaded & {"collections", "contextlib", "dataclasses", "inspect", "json", "re", "typing"}


@needs_landlock
def test_a_program_that_cannot_be_started_is_an_error_in_one_line(root: Path) -> None:
    command = [sys.executable, "-I", "-S", landlock.__file__, *policy(root).arguments(), END, "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("The sandbox could not be set up: ")


def test_an_old_kernel_is_refused_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "landlock_abi", lambda: 1)
    with pytest.raises(OSError, match="ABI 3 is needed; this kernel has 1"):
        restrict([], has_network=True)
