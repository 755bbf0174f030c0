"""Takes away from a Python process, as it starts, what Linux has and macOS has not; for what it starts too.

The names are those that the documents of the standard library call "Linux", or leave macOS out of. Libraries are the
Linux builds, so `sys.platform` stays what it is; what a Mac's builds do is not simulated.

TEST_OPENMP names a folder, to which each process writes at its end which OpenMP runtimes it has loaded.
"""

import atexit
import errno
import fcntl
import json
import multiprocessing
import os
import resource
import select
import signal
import socket
import sys
import time
from pathlib import Path

LACKING = {
    os: (
        "sched_", "SCHED_", "posix_fadvise", "posix_fallocate", "POSIX_FADV_", "pidfd_", "PIDFD_", "eventfd", "EFD_",
        "memfd_", "MFD_", "copy_file_range", "splice", "SPLICE_", "getrandom", "GRND_", "getresuid", "getresgid",
        "setresuid", "setresgid", "unshare", "setns", "CLONE_", "fdatasync", "pipe2", "timerfd", "TFD_", "P_PIDFD",
        "getxattr", "setxattr", "listxattr", "removexattr", "XATTR_", "O_DIRECT", "O_TMPFILE", "O_PATH", "O_NOATIME",
        "O_LARGEFILE", "O_RSYNC", "RWF_", "preadv2",
    ),
    fcntl: ("F_OFD_", "F_SETPIPE_SZ", "F_GETPIPE_SZ", "F_ADD_SEALS", "F_SEAL_", "F_NOTIFY", "F_SETSIG", "F_SETLEASE"),
    resource: ("prlimit", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME", "RLIMIT_SIGPENDING"),
    select: ("epoll", "EPOLL"),
    signal: ("SIGRTM", "SIGPWR", "SIGSTKFLT", "SIGPOLL", "sigwaitinfo", "sigtimedwait", "pidfd_send_signal"),
    socket: (
        "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "TCP_CORK", "TCP_QUICKACK",
        "TCP_USER_TIMEOUT", "TCP_DEFER_ACCEPT", "SO_BINDTODEVICE", "SO_PEERCRED", "SO_MARK",
    ),
    time: ("CLOCK_BOOTTIME", "CLOCK_TAI", "pthread_getcpuclockid"),
}  # fmt: skip

for module, beginnings in LACKING.items():
    for name in list(vars(module)):
        # O_DIRECT is not O_DIRECTORY, which macOS has
        if name.startswith(beginnings) and name != "O_DIRECTORY":
            delattr(module, name)

if hasattr(os, "process_cpu_count"):  # Python 3.13 writes it in terms of the affinity where there is one
    os.process_cpu_count = os.cpu_count


def asked_by(module: str) -> bool:
    """Return True if the module is among the callers; a Mac has the C library that it asks, under another name."""
    frame = sys._getframe()
    while (frame := frame.f_back) is not None:
        if frame.f_globals.get("__name__") == module:
            return True
    return False


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse the kernel's file systems and glibc."""
    if event == "ctypes.dlopen" and str(arguments[0]).startswith("libc.so") and not asked_by("threadpoolctl"):
        raise OSError("no such library")
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.fsdecode(arguments[0])
        # threadpoolctl asks there which libraries are loaded, and on a Mac the loader
        if path.startswith(("/proc", "/sys/")) and path != "/proc/self/maps":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


sys.addaudithook(refuse)
multiprocessing.set_start_method("spawn")
# A shell of macOS lets a process open 256 files, unless the process itself asks for more.
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def write_runtimes() -> None:
    """Write which OpenMP runtimes are loaded."""
    if "threadpoolctl" not in sys.modules:
        return
    loaded = [
        row["filepath"]
        for row in sys.modules["threadpoolctl"].threadpool_info()
        if row["user_api"] == "openmp"
    ]
    Path(os.environ["TEST_OPENMP"], f"{os.getpid()}.json").write_text(
        json.dumps(
            {
                "command": sys.argv,
                "openmp": loaded,
                "modules": sorted({"torch", "sklearn"} & sys.modules.keys()),
            }
        )
    )


if "TEST_OPENMP" in os.environ:
    atexit.register(write_runtimes)
