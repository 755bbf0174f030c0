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


def test_return_freed_memory__returns_what_was_kept() -> None:
    call = f"{CALL}; from usl_backend.encoders.allocator import return_freed_memory"
    freed = MEASURE.replace("print(", "assert return_freed_memory() is True\nprint(")
    done = subprocess.run(
        [sys.executable, "-c", freed.format(call=call)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 64 << 20


def test_return_large_blocks__returns_them_as_they_are_freed() -> None:
    call = f"{CALL}; from usl_backend.encoders.allocator import return_large_blocks; assert return_large_blocks()"
    assert resident_after_free(call) < 64 << 20


def test_keep_freed_memory__lets_threads_use_what_others_freed() -> None:
    # eight threads, one after another, each with a block of its own for a while
    code = f"""
{CALL}
import ctypes, threading
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
stay = threading.Barrier(9)
def work(turn):
    block = libc.malloc(16 << 20)
    ctypes.memset(block, 1, 16 << 20)
    libc.free(block)
    done[turn].set()
    stay.wait()
done = [threading.Event() for _ in range(8)]
for turn in range(8):
    threading.Thread(target=work, args=(turn,)).start()
    done[turn].wait()
print(int(open("/proc/self/statm").read().split()[1]) * 4096)
stay.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 64 << 20
