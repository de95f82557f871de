"""The way by which a secret reaches a child: a socket of its own, made when it is shut off.

A child's standard input can be opened by any process of the same user while the child still
starts, and whoever opened a pipe then reads along later. So the child makes a new pair of
sockets once it is shut off, and hands one end to its parent through its standard input.

Rules:
- Sockets, not pipes: /proc opens no socket anew.
- The parent speaks only to a socket that a child of its child made.
- It says nothing to a process that is traced: who traces one from its first moment follows its
  fork, too. (Who traces the parent as well sees what it says anyway, and is not asked about.)
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path
from typing import Final

_READY: Final = b"\n"
_PIECE: Final = 1 << 16


class Traced(PermissionError):
    """A process that would be told a secret is traced by another one."""


def offer() -> socket.socket:
    """Hand one end of a new pair to the parent, by standard input; return the other.

    Raises:
        OSError: standard input is no socket.
    """
    mine, theirs = socket.socketpair()
    with theirs, socket.socket(fileno=os.dup(0)) as parent:
        socket.send_fds(parent, [_READY], [theirs.fileno()])
    return mine


def take(control: socket.socket, child: int) -> socket.socket | None:
    """Return the end that a child hands over, None where it ended without one.

    Parameters:
        control: the other end of the child's standard input, with a time limit.
        child: the process id of the child.

    Raises:
        TimeoutError: nothing came.
        PermissionError: somebody else handed it over.
        Traced: another process traces the child, or the one that made the channel.
    """
    said, descriptors, _, _ = socket.recv_fds(control, len(_READY), 1)
    if said != _READY or len(descriptors) != 1:
        return None
    os.set_inheritable(descriptors[0], False)
    channel = socket.socket(fileno=descriptors[0])
    channel.settimeout(control.gettimeout())
    try:
        if sys.platform == "linux":
            require_unseen(_maker_of(channel), child)
    except BaseException:
        channel.close()
        raise
    return channel


def require_unseen(worker: int, child: int) -> None:
    """Check that a process is a child's own, and that nobody looks into either of the two.

    Raises:
        PermissionError: another process stands in its place.
        Traced: another process traces one of them.
    """
    if _number_in("PPid", worker) != child:
        raise PermissionError("another process answered in the place of the one that was started")
    own = _number_in("TracerPid", os.getpid())
    for pid in (worker, child):
        if (tracer := _number_in("TracerPid", pid)) not in (0, own):
            raise Traced(f"process {tracer} traces it and would see what it is told")


def _maker_of(channel: socket.socket) -> int:
    size = struct.calcsize("3i")
    found = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid: int = struct.unpack("3i", found)[0]
    return pid


def _number_in(name: str, pid: int) -> int:
    """Return a number that the kernel tells of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def read_to_end(channel: socket.socket) -> bytes:
    """Return what is sent until the other side says that this was all."""
    content = bytearray()
    while piece := channel.recv(_PIECE):
        content += piece
    return bytes(content)
