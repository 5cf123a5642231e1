"""The processes below this one: what they use, where they listen, and their end.

Runtimes start daemons that leave their parent's group and session. So this process adopts orphans (it becomes a
"subreaper", prctl(2)): whatever was started below it stays below it, however it was started, and is found in /proc.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import os
import signal
import socket
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LISTEN = "0A"  # state of a socket in /proc/net/tcp


@dataclass(frozen=True)
class Process:
    """One process. A process id is used again, the pair with its start is not."""

    pid: int
    started: int


def adopt_orphans() -> None:
    """Processes whose parents end become children of this one."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent() -> None:
    """SIGTERM comes when the process that started this one ends, whatever ended it."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def leave_network() -> bool:
    """Moves this process, which must have one thread, and all that it starts into a network namespace of its own that
    has only loopback. False where this user may not; then nothing has changed."""
    library = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if library.unshare(_CLONE_NEWNET) != 0:
        if library.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            return False
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
    return True


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on (field 3 of proc(5) is element 0)."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def below(root: int) -> set[Process]:
    """All descendants of `root`, zombies too."""
    children: dict[int, list[Process]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = _stat(int(entry))
                children.setdefault(int(fields[1]), []).append(Process(int(entry), int(fields[19])))
    found: set[Process] = set()
    open_ends = [root]
    while open_ends:
        for child in children.get(open_ends.pop(), []):
            if child not in found:
                found.add(child)
                open_ends.append(child.pid)
    return found


def cpu_seconds() -> float:
    """User and system time so far of this process and all below it, with that of ended children that were waited for.

    A child that ended is in its parent's sum once the parent waited for it, and in /proc until then. Only children of a
    process that ignores SIGCHLD are missing.
    """
    ticks = 0
    for pid in [os.getpid(), *(process.pid for process in below(os.getpid()))]:
        with contextlib.suppress(OSError):
            ticks += sum(int(field) for field in _stat(pid)[11:15])
    return ticks / _TICKS_PER_S


def open_addresses() -> list[str]:
    """Addresses beyond loopback on which this process or one below it listens for TCP, as "0.0.0.0:80"."""
    inodes = set()
    for pid in [os.getpid(), *(process.pid for process in below(os.getpid()))]:
        with contextlib.suppress(OSError):
            for handle in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{pid}/fd/{handle}")
                    if target.startswith("socket:["):
                        inodes.add(target[len("socket:[") : -1])
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and fields[9] in inodes:
                    address, port = fields[1].split(":")
                    if not _readable(address).is_loopback:
                        found.append(f"{_readable(address)}:{int(port, 16)}")
    return sorted(found)


def _readable(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address of /proc/net/tcp: words of four bytes, each in the machine's order (little-endian is assumed)."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def end_below(spared: Collection[Process] = (), patience_s: float = 3) -> int:
    """Ends what still runs below this process except `spared`: SIGTERM, then SIGKILL. Returns how many there were."""
    left = below(os.getpid()) - set(spared)
    count = len(left)
    deadline = time.monotonic() + patience_s
    sign = signal.SIGTERM
    while left:
        for process in left:
            with contextlib.suppress(OSError):
                if int(_stat(process.pid)[19]) == process.started:
                    os.kill(process.pid, sign)
        time.sleep(0.05)
        _reap(left)
        left = below(os.getpid()) - set(spared)
        if time.monotonic() > deadline:
            if sign == signal.SIGKILL:  # not even that helped: such a process waits for a device
                break
            sign, deadline = signal.SIGKILL, time.monotonic() + patience_s
    return count


def _reap(processes: Collection[Process]) -> None:
    """Waits for those that are children of this process and have ended."""
    for process in processes:
        with contextlib.suppress(OSError):
            os.waitpid(process.pid, os.WNOHANG)
