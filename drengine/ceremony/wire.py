"""The socket between an open ceremony and the commands that speak to it.

One message a connection: a line of JSON there, a line of JSON back. Nothing secret
crosses it: contributions are sealed, the blob is for the new HSM only.

Rule: both ends are processes of one user, and both ends look: the session does not obey
others, and a command does not believe them.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from drengine.ceremony.folder import require_private
from drengine.ceremony.messages import read_result
from drengine.errors import CeremonyError

SOCKET_NAME: Final = "session.socket"
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_PIECE: Final = 65536
_SECONDS: Final = 330.0
_CONNECT_SECONDS: Final = 5.0
_NOBODY: Final = (FileNotFoundError, ConnectionRefusedError)
"""What the kernel says where no process listens."""
_NEXT: Final = (
    "The one-time key is gone when its session ends: open a new ceremony with "
    "'drengine ceremony open'. Contributions to the old request open nothing any more."
)


@contextmanager
def bind_in(folder: Path) -> Iterator[socket.socket]:
    """Listen in a folder, for this user only.

    Raises:
        CeremonyError: a session is open there already, or the folder takes no socket.
        InputFileError: the folder is not this user's alone.
    """
    require_private(folder)
    if is_listening(folder):
        raise CeremonyError(f"a ceremony is open in {folder} already", hint="Use a new folder.")
    (folder / SOCKET_NAME).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with _short_path(folder) as path:
            listening.bind(path)
    except OSError as error:
        listening.close()
        raise CeremonyError(
            f"listening in {folder}: {error.strerror}", hint="Use a folder on a local disk."
        ) from None
    finally:
        os.umask(before)
    with listening:
        listening.listen(8)
        yield listening


@contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """A socket's path may have 107 bytes only; through a descriptor, folders may be longer."""
    direct = str(folder / SOCKET_NAME)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        through = Path(f"/proc/self/fd/{descriptor}")
        yield f"{through}/{SOCKET_NAME}" if through.exists() else direct
    finally:
        os.close(descriptor)


def is_listening(folder: Path) -> bool:
    """Tell whether a session takes connections in a folder; where none does, its key is gone.

    Raises:
        CeremonyError: it cannot be told.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_CONNECT_SECONDS)
            with _short_path(folder) as path:
                connection.connect(path)
    except _NOBODY:
        return False
    except OSError as error:
        raise _unknown(folder, error) from None
    return True


def _unknown(folder: Path, error: OSError) -> CeremonyError:
    return CeremonyError(
        f"asking the session in {folder}: {error.strerror or 'it does not answer'}; whether the "
        "ceremony is open, and what became of what was asked for, is not known",
        hint="Look at the terminal in which it was opened: it may be another user's, at work, or "
        "stopped. Then ask again: drengine ceremony status --session "
        f"{shlex.quote(str(folder))}",
    )


def ask_session(
    folder: Path, message: dict[str, Any], *, seconds: float = _SECONDS
) -> dict[str, Any]:
    """Ask the session of a folder; return its answer.

    Parameters:
        seconds: how long it is waited for.

    Raises:
        DrError: its refusal, as the same kind of error.
        CeremonyError: no session is open there, it does not answer, or another user answers in
            its place.
        InputFileError: who answers cannot be told, and the folder is not this user's alone.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            with _short_path(folder) as path:
                connection.connect(path)
            _require_own(connection, folder)
            reply(connection, message)
            connection.shutdown(socket.SHUT_WR)
            answer = _read_all(connection)
    except _NOBODY as error:
        raise CeremonyError(
            f"no ceremony is open in {folder} ({error.strerror})", hint=_NEXT
        ) from None
    except OSError as error:
        raise _unknown(folder, error) from None
    try:
        return read_result(answer)
    except (ValueError, KeyError, TypeError):
        raise CeremonyError(f"the session in {folder} broke off", hint=_NEXT) from None


def peer_user(connection: socket.socket) -> int | None:
    """Return the user at the other end, None where this system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, size))
    return int(uid)


def is_own_user(connection: socket.socket) -> bool:
    """Tell whether the other end is this user; the socket's mode guards it where unknown."""
    return peer_user(connection) in (None, os.getuid())


def _require_own(connection: socket.socket, folder: Path) -> None:
    """Refuse an answer by somebody else, before anything is asked."""
    uid = peer_user(connection)
    if uid is None:
        require_private(folder)
    elif uid != os.getuid():
        raise CeremonyError(
            f"the session in {folder} is held by another user (uid {uid}), not by you (uid "
            f"{os.getuid()}); nothing was asked, and nothing that it says counts",
            hint="Run this as the user who opened the ceremony. If that is you, somebody else "
            "answers in its place: stop, cancel, and open a new one in a folder of your own.",
        )


def receive(connection: socket.socket) -> dict[str, Any]:
    """Read one message."""
    found = json.loads(_read_all(connection))
    if not isinstance(found, dict):
        raise TypeError("a message is an object")
    return found


def reply(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message."""
    connection.sendall(json.dumps(message).encode("ascii") + b"\n")


def _read_all(connection: socket.socket) -> bytes:
    content = b""
    while not content.endswith(b"\n") and (piece := connection.recv(_PIECE)):
        content += piece
        if len(content) > MAX_MESSAGE_BYTES:
            raise ValueError("a message is too long")
    return content
