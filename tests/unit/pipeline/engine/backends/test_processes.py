from __future__ import annotations

import os
import subprocess
import sys

import psutil

from pipeline.engine.backends.processes import descendants, end_descendants, private_bytes, resident_bytes
from tests.fakes.clock import wait_for

PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
HOLDER = "held = bytearray(30_000_000); print('ready', flush=True); input()"


def test_grandchildren_are_descendants_and_can_be_ended():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE) as child:
        wait_for(lambda: len(descendants(child.pid)) == 1)
        grandchild = psutil.Process(descendants(child.pid)[0])
        assert {child.pid, grandchild.pid} <= set(descendants(os.getpid()))
        end_descendants(child.pid, 5)
        assert descendants(child.pid) == []
        assert child.wait(10) == 0  # it waited for its own child and goes on


def test_private_memory_is_what_a_process_holds_without_the_files_it_maps():
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    assert 30e6 < private_bytes([process.pid]) < resident_bytes([process.pid]) < 80e6
    process.communicate("\n")
    assert resident_bytes([process.pid]) == private_bytes([process.pid]) == 0
