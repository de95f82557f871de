"""Secrets by reference: `env:NAME`, `file:PATH`, `fd:N`, `prompt:TEXT`.

Rules:
- What a reference gives stays in this process; only the reference is ever written.
- A file must be 0600 or stricter and belong to this user; a descriptor is read once.
- A reference that cannot be resolved is a wait, not a failure: it says what is needed.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from drengine.errors import InputError, Waiting
from drengine.model.plan import Plan, PlanPart
from drengine.model.runbook import InputType, Runbook
from drengine.model.secret import Secret, SecretRef

MAX_SECRET_BYTES: Final = 64 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class SecretResolver:
    """Resolves references, each once per process."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._known: dict[str, Secret] = {}

    def __call__(self, reference: str) -> Secret:
        """Return the secret that `reference` names.

        Raises:
            Waiting: it is not there now; the message says what to provide.
            InputError: the reference is malformed.
        """
        if reference not in self._known:
            ref = SecretRef.parse(reference)
            if ref is None:
                raise InputError(
                    "a secret must be given as a reference, never as the secret itself",
                    hint="env:NAME, file:PATH, fd:N or prompt:TEXT",
                )
            text = self._read(ref).strip("\r\n")
            if not text:
                raise Waiting(f"the secret {ref} is empty", hint=_advice(ref))
            self._known[reference] = Secret(text)
        return self._known[reference]

    def _read(self, ref: SecretRef) -> str:
        match ref.scheme:
            case "env":
                if ref.name not in self._environ:
                    raise Waiting(f"the secret {ref} is not set", hint=_advice(ref))
                return self._environ[ref.name]
            case "file":
                return _read_file(ref)
            case "fd":
                return _read_descriptor(ref)
            case "prompt":
                return _ask(ref)
            case _:
                raise InputError(
                    f"{ref} makes a SAS of the backup container; no other secret is made",
                    hint="env:NAME, file:PATH, fd:N or prompt:TEXT",
                )


def _advice(ref: SecretRef) -> str:
    match ref.scheme:
        case "env":
            return f"export {ref.name}=… (a leading space keeps it out of the shell's history)"
        case "file":
            return f"write it to {ref.name} with mode 0600"
        case "fd":
            return f"open it in the shell: '{ref.name}<FILE' behind the command"
        case _:
            return "run the command on a terminal, or name another place: env:NAME, file:PATH, fd:N"


def _read_file(ref: SecretRef) -> str:
    path = Path(ref.name).expanduser()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        message = f"the secret {ref} cannot be read: {error.strerror}"
        raise Waiting(message, hint=_advice(ref)) from None
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"the secret {ref} is not a regular file")
        if found.st_mode & _OTHERS or found.st_uid not in (0, os.getuid()):
            mode = f"{stat.S_IMODE(found.st_mode):04o}"
            raise InputError(
                f"the secret {ref} may be read by others (mode {mode}, expected 0600)",
                hint=f"chmod 600 {path}; if others had it, make a new one",
            )
        return _decoded(stream.read(MAX_SECRET_BYTES + 1), ref)


def _read_descriptor(ref: SecretRef) -> str:
    if not ref.name.isdigit():
        raise InputError(f"the secret {ref} does not name a descriptor", hint="fd:3, with 3<FILE")
    try:
        with os.fdopen(int(ref.name), "rb") as stream:
            return _decoded(stream.read(MAX_SECRET_BYTES + 1), ref)
    except OSError as error:
        message = f"the secret {ref} cannot be read: {error.strerror}"
        raise Waiting(message, hint=_advice(ref)) from None


def _decoded(content: bytes, ref: SecretRef) -> str:
    if len(content) > MAX_SECRET_BYTES:
        raise InputError(f"the secret {ref} has more than {MAX_SECRET_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InputError(f"the secret {ref} is not text") from None


def _ask(ref: SecretRef) -> str:
    if not sys.stdin.isatty():
        asked = ref.name or "a secret"
        raise Waiting(f"'{asked}' must be typed, and there is no terminal here", hint=_advice(ref))
    answer: str = click.prompt(ref.name or "Secret", hide_input=True, err=True)
    return answer


def secrets_of(plan: Plan, load: Callable[[str], Runbook]) -> tuple[str, ...]:
    """Return every secret reference that a plan holds."""
    return tuple(dict.fromkeys(_references(plan.root, load)))


def _references(part: PlanPart, load: Callable[[str], Runbook]) -> Iterator[str]:
    inputs: Mapping[str, Any] = part.inputs
    for name, spec in load(part.runbook_text).inputs.items():
        value = inputs.get(name)
        if spec.type is InputType.SECRET and isinstance(value, str):
            yield value
    for child in part.children.values():
        yield from _references(child, load)
