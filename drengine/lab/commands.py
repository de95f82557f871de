"""What `drengine lab …` does, as functions on a lab home.

None of them prints. `up` starts the server as a process of its own, which outlives the
caller; everything else works on files, or through the lab's port.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from drengine.errors import InputError, StepFailed
from drengine.lab.client import LoopbackClient
from drengine.lab.clock import LabClock
from drengine.lab.home import LabHome
from drengine.lab.settings import (
    Settings,
    fast_settings,
    from_document,
    load_settings,
    save_settings,
)
from drengine.lab.spec import EstateSpec
from drengine.lab.store import read_calls, reading

KEPT: Final = ("PATH", "HOME", "LANG", "TERM")
_AZURES: Final = re.compile(r"(?i:AZURE)_\w*", re.ASCII)
PAST_THE_PROXY: Final = ("NO_PROXY", "no_proxy")
FAST_SPEED: Final = 600.0
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 5.0
CONTROL: Final = "https://lab.drengine.invalid"
_STEP: Final = 0.02


def up(
    home: Path,
    *,
    estate: EstateSpec | None = None,
    speed: float | None = None,
    fast: bool = False,
    settings: Mapping[str, Any] | None = None,
    port: int = 0,
    console: bool = False,
) -> dict[str, Any]:
    """Start the lab of a home, making it where there is none, and return its status.

    A lab that was killed starts again with the state it had.

    Parameters:
        home: the lab home.
        estate: what a new lab is to hold; the default estate where None.
        speed: virtual seconds per wall second.
        fast: clients poll every 40 ms, and virtual time runs 600 times as fast
            unless `speed` says otherwise.
        settings: single settings by name; see `drengine.lab.settings`.
        port: 0 takes the port the lab had before, or any free one.
        console: serve a page on loopback that shows the lab.

    Raises:
        InputError: a setting does not exist.
        StepFailed: the server did not start.
    """
    place = LabHome(home.resolve())
    place.make()
    place.identity()
    if estate is not None and not place.estate.exists():
        place.estate.write_text(json.dumps(estate.to_document()))
    if not place.is_running():
        _write_settings(place, fast=fast, settings=settings)
        _start(place, port, console=console)
    wanted = FAST_SPEED if fast and speed is None else speed
    if wanted is not None:
        # not earlier: building an estate would take virtual minutes
        LabClock(place.clock).set(speed=wanted)
    return status(place.root)


def _write_settings(place: LabHome, *, fast: bool, settings: Mapping[str, Any] | None) -> None:
    try:
        found = load_settings(place.settings)
        chosen: Settings = fast_settings(found) if fast else found
        if settings:
            chosen = from_document({**_as_document(chosen), **settings})
    except (TypeError, ValueError) as error:
        raise InputError(f"starting the lab in {place.root}: {error}.") from error
    save_settings(place.settings, chosen)


def _as_document(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Settings.__dataclass_fields__}


def up_from_file(home: Path, file: Path | None, **options: Any) -> dict[str, Any]:
    """Start a lab as `up` does, from a file that describes its estate.

    Besides the members of `EstateSpec` the file may have `settings` and `faults`.

    Parameters:
        file: YAML or JSON; None means the default estate.
        options: as for `up`.

    Raises:
        InputFileError: the file is not such a description; it says where.
    """
    if file is None:
        return up(home, **options)
    from drengine.lab import estatefile  # noqa: PLC0415 - needs the services

    wanted = estatefile.read(file)
    settings = {**wanted.settings, **(options.pop("settings", None) or {})}
    found = up(home, estate=wanted.spec, settings=settings or None, **options)
    for rule in wanted.faults:
        add_fault(home, **rule)
    return found


def _start(place: LabHome, port: int, *, console: bool) -> None:
    reader, writer = os.pipe()
    arguments = ["--home", str(place.root), "--port", str(port), "--detach", str(writer)]
    if console:
        arguments.append("--console")
    try:
        _python(place, "drengine.lab.serve", arguments, _kept(), pass_fds=(writer,)).wait()
    finally:
        os.close(writer)
    try:
        _await(place, reader, "listening")
        signing_in = None
        if not (place.azure_config / "azureProfile.json").exists():
            signing_in = _python(place, "drengine.lab.signin", [], env(place.root))
        _await(place, reader, "ready")
    finally:
        os.close(reader)
    if signing_in is not None and signing_in.wait(START_SECONDS) != 0:
        raise StepFailed(
            f"signing in to the lab in {place.root}: it failed; the lab itself runs.",
            hint=f"Read {place.log}.",
        )


def _kept() -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def _python(
    place: LabHome,
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a module of this package, wherever the caller imported it from."""
    package_root = str(Path(__file__).resolve().parents[2])
    descriptor = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as log_file:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", module, *arguments],
            env={**environment, "PYTHONPATH": package_root},
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
            pass_fds=pass_fds,
        )


def _await(place: LabHome, descriptor: int, word: str) -> None:
    """Wait until the server says the word; the pipe closes when it dies."""
    readable, _, _ = select.select([descriptor], [], [], START_SECONDS)
    said = os.read(descriptor, len(word) + 1).decode().strip() if readable else ""
    if said == word:
        return
    _let_end(place)
    tail = place.log.read_text(errors="replace").strip().splitlines()[-1:]
    raise StepFailed(
        f"starting the lab in {place.root}: waited for {word!r}, but the server ended or took "
        f"longer than {START_SECONDS:.0f} s. {' '.join(tail)}",
        hint=f"Read {place.log}.",
    )


def _let_end(place: LabHome) -> None:
    """Give a server that is ending the time to let go of its lock."""
    until = time.monotonic() + STOP_SECONDS
    while place.is_running() and time.monotonic() < until:
        time.sleep(_STEP)


def down(home: Path) -> bool:
    """Stop the lab's server; return whether one ran. Its state stays."""
    place = LabHome(home.resolve())
    place.require()
    if not place.is_running():
        return False
    pid = int(place.server_document()["pid"])
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    while place.is_running():
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(_STEP)
    return True


def status(home: Path) -> dict[str, Any]:
    """Return what there is in the lab, and whether it runs.

    Raises:
        InputFileError: there is no lab in this home.
    """
    from drengine.lab.status import describe  # noqa: PLC0415 - it needs the services

    place = LabHome(home.resolve())
    place.require()
    return describe(place)


def env(home: Path) -> dict[str, str]:
    """Return the whole environment for a client of the lab; nothing else is inherited.

    Raises:
        InputFileError: there is no lab in this home.
    """
    place = LabHome(home.resolve())
    place.require()
    identity = place.identity()
    proxy = f"http://127.0.0.1:{place.server_document().get('port', 0)}"
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    for name in ("https_proxy", "http_proxy", "all_proxy"):
        found[name] = found[name.upper()] = proxy
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        found[name] = str(place.ca)
    return {
        **found,
        "AZURE_CONFIG_DIR": str(place.azure_config),
        "AZURE_CORE_COLLECT_TELEMETRY": "false",
        "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no",
        "AZURE_TENANT_ID": identity.tenant,
        "AZURE_SUBSCRIPTION_ID": identity.subscription,
        "AZURE_CLIENT_ID": identity.client_id,
        "AZURE_CLIENT_SECRET": identity.client_secret,
        "DRENGINE_LAB": str(place.root),
    }


def to_unset(environ: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return the names of an environment that must not stay beside `env`, ordered.

    A NO_PROXY would lead past the lab, and an AZURE_* of the caller to another account or cloud.
    """
    inherited = {name for name in environ if _AZURES.fullmatch(name)}
    return sorted((inherited | set(PAST_THE_PROXY)) - set(found))


def exec_(home: Path, argv: Sequence[str]) -> int:
    """Run a command as a client of the lab and return its exit code.

    Raises:
        InputError: the command does not exist.
    """
    try:
        return subprocess.run(list(argv), env=env(home), check=False).returncode  # noqa: S603 - the user's own command
    except FileNotFoundError:
        raise InputError(
            f"running {argv[0]!r} in the lab: there is no such command on the PATH",
            hint="Install it, or name it with its path; the PATH in the lab is that of this shell.",
        ) from None


def log(home: Path, after: int = 0) -> list[dict[str, Any]]:
    """Return the rows of the call log with a higher number than `after`.

    Raises:
        InputFileError: there is no lab in this home.
    """
    place = LabHome(home.resolve())
    place.require()
    return read_calls(place.database, after)


def disaster(home: Path, kind: str = "purge", target: str = "") -> dict[str, Any]:
    """Let a disaster of `drengine.lab.disasters` happen; the source HSM's loss by default.

    Raises:
        InputError: unknown kind or target, or it has happened already.
    """
    wanted = {"kind": kind, "target": target} if target else {"kind": kind}
    return _control(home, "POST", "/disaster", wanted)


def add_fault(home: Path, **rule: Any) -> dict[str, Any]:
    """Have answers spoilt; members are those of `drengine.lab.faults.Rule`, or `name`.

    Raises:
        InputError: unknown name, kind or member.
    """
    return _control(home, "POST", "/faults", rule)


def list_faults(home: Path) -> list[dict[str, Any]]:
    """Return the faults, with how often each was seen and hit."""
    return list(_control(home, "GET", "/faults", {})["faults"])


def clear_faults(home: Path) -> int:
    """Forget all faults and return how many there were."""
    return int(_control(home, "DELETE", "/faults", {})["cleared"])


def effects(home: Path, after: int = 0) -> dict[str, int]:
    """Return how often each effect was accepted: the judge of "never twice".

    Parameters:
        after: only what has a higher number in the call log.
    """
    place = LabHome(home.resolve())
    place.require()
    with reading(place.database, 0) as tx:
        return tx.count_effects(after)


def set_clock(
    home: Path, *, speed: float | None = None, advance_seconds: float | None = None
) -> dict[str, Any]:
    """Change the lab's virtual time and return it; works also while the lab is down.

    Raises:
        InputError: the speed is negative.
    """
    place = LabHome(home.resolve())
    place.require()
    clock = LabClock(place.clock)
    advance_ms = None if advance_seconds is None else int(advance_seconds * 1000)
    try:
        clock.set(speed=speed, advance_ms=advance_ms)
    except ValueError as error:
        raise InputError(f"setting the clock of the lab in {place.root}: {error}.") from error
    return {"now_ms": clock.now_ms(), "speed": clock.speed}


def _control(home: Path, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    place = LabHome(home.resolve())
    place.require()
    client = LoopbackClient(int(place.server_document().get("port", 0)), place.ca)
    try:
        answer = client.request(method, CONTROL + path, body=json.dumps(body).encode())
    except OSError as error:
        raise StepFailed(
            f"asking the lab in {place.root}: it does not answer ({error}).",
            hint=f"Run 'drengine lab up --home {place.root}'.",
        ) from error
    found = dict(json.loads(answer.body))
    if "error" in found:
        raise InputError(f"asking the lab in {place.root}: {found['error']['message']}")
    return found
