import subprocess
import sys

import pytest

MEASURE = """
import ctypes, sys
{call}
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
block = libc.malloc(64 << 20)
ctypes.memset(block, 1, 64 << 20)
libc.free(block)
print(resident())
"""
CALL = "from usl_backend.encoders.allocator import keep_freed_memory; assert keep_freed_memory() is True"


def resident_after_free(call: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(call=call)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def test_keep_freed_memory__keeps_a_large_block() -> None:
    assert resident_after_free("") < 64 << 20
    assert resident_after_free(CALL) > 64 << 20


def test_keep_freed_memory__elsewhere_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from usl_backend.encoders import allocator

    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
