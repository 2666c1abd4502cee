from __future__ import annotations

import os
import subprocess
import sys

import pytest

from demo.scale.memory import process_tree, pss_mb

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture
def sleeping():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def test_the_tree_has_this_process_and_what_it_started_but_for_what_is_left_out(sleeping):
    assert {os.getpid(), sleeping} <= set(process_tree(os.getpid()))
    assert sleeping not in process_tree(os.getpid(), [sleeping])


def test_memory_is_that_of_the_process_and_nothing_once_it_has_ended(sleeping):
    assert pss_mb(os.getpid()) > 1
    assert pss_mb(2**22 + 1) == 0.0
