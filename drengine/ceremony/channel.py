"""The way by which a secret reaches a child: a socket of its own, made when it is shut off.

A child's standard input can be opened by any process of the same user while the child still
starts, and whoever opened a pipe then reads along later. So the child makes a new pair of
sockets once it is shut off, and hands one end to its parent through its standard input.

Rules:
- Sockets, not pipes: /proc opens no socket anew.
- The parent speaks only to a socket that a child of its child made.
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
    """
    said, descriptors, _, _ = socket.recv_fds(control, len(_READY), 1)
    if said != _READY or len(descriptors) != 1:
        return None
    os.set_inheritable(descriptors[0], False)
    channel = socket.socket(fileno=descriptors[0])
    channel.settimeout(control.gettimeout())
    if sys.platform == "linux" and _parent_of(_maker_of(channel)) != child:
        channel.close()
        raise PermissionError("another process answered in the place of the one that was started")
    return channel


def _maker_of(channel: socket.socket) -> int:
    size = struct.calcsize("3i")
    found = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid: int = struct.unpack("3i", found)[0]
    return pid


def _parent_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("PPid:"):
            return int(line.split()[1])
    return 0


def read_to_end(channel: socket.socket) -> bytes:
    """Return what is sent until the other side says that this was all."""
    content = bytearray()
    while piece := channel.recv(_PIECE):
        content += piece
    return bytes(content)
