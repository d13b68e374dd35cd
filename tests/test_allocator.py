import ctypes
import os
import subprocess
import sys

import pytest

from instructloop import allocator

GLIBC = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
TOUCH = """
import ctypes, os, sys
from instructloop import allocator
print(allocator.keep_freed_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident()
block = libc.malloc(2**27)
ctypes.memset(block, 1, 2**27)
libc.free(block)
print(resident() - before > 2**26)
"""


@pytest.mark.skipif(not GLIBC, reason="another allocator")
@pytest.mark.parametrize(("environment", "said"), [({}, "True True"), ({"MALLOC_TRIM_THRESHOLD_": "1"}, "False False")])
def test_freed_memory_is_kept_unless_the_environment_says_otherwise(environment: dict[str, str], said: str):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", TOUCH], env=clean | environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == said.split()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    for name in allocator.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert not allocator.keep_freed_memory()
    assert not any(name in os.environ for name in allocator.SETTINGS)
