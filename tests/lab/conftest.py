"""A running lab for each test session, and real Azure clients on it."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.identity import ClientSecretCredential

from drengine.lab import commands
from drengine.lab.client import LoopbackClient
from drengine.lab.clock import LabClock
from drengine.lab.entra import mint_token


@dataclass(frozen=True)
class RunningLab:
    """A lab that runs, with what clients need to reach it."""

    home: Path

    @property
    def status(self) -> dict[str, Any]:
        return commands.status(self.home)

    @property
    def client_options(self) -> dict[str, Any]:
        """Keyword arguments for every Azure client, so that tests need no environment."""
        found = self.status
        return {
            "proxies": {"https": found["proxy"]},
            "connection_verify": found["ca"],
            "use_env_settings": False,
        }

    def credential(self) -> Any:
        env = commands.env(self.home)
        return ClientSecretCredential(
            env["AZURE_TENANT_ID"],
            env["AZURE_CLIENT_ID"],
            env["AZURE_CLIENT_SECRET"],
            **self.client_options,
        )

    def token(self, audience: str = "https://managedhsm.azure.net", object_id: str = "") -> str:
        found = self.status
        return mint_token(
            tenant=found["tenant"],
            object_id=object_id or found["object_id"],
            app_id=found["client_id"],
            audience=audience,
            kind="operator",
            lifetime_seconds=600,
        )

    def call(
        self, method: str, url: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> Any:
        """Send one request as the operator; return status, headers and JSON or bytes."""
        audience = "https://management.azure.com"
        if (urlsplit(url).hostname or "").endswith(".managedhsm.azure.net"):
            audience = "https://managedhsm.azure.net"
        bearer = self.token(audience) if token is None else token
        client = LoopbackClient(int(self.status["proxy"].rsplit(":", 1)[1]), self.home / "ca.pem")
        sent = {"authorization": f"Bearer {bearer}"} if bearer else {}
        payload = b"" if body is None else json.dumps(body).encode()
        if payload:
            sent["content-type"] = "application/json"
        answer = client.request(
            method, url, headers={**sent, **headers}, body=payload, timeout_seconds=60
        )
        try:
            return answer.status, answer.headers, json.loads(answer.body)
        except ValueError:
            return answer.status, answer.headers, answer.body

    def effects(self, after: int = 0) -> list[str]:
        return [row["effect"] for row in commands.log(self.home, after) if row["effect"]]

    def last_seq(self) -> int:
        rows = commands.log(self.home)
        return int(rows[-1]["seq"]) if rows else 0


def forget_challenges() -> None:
    """Empty the SDKs' caches of challenges: per host and process, with the last lab's tenant."""
    for module in (
        "azure.keyvault.administration._internal",
        "azure.keyvault.keys._shared",
        "azure.keyvault.securitydomain._internal",
    ):
        importlib.import_module(f"{module}.http_challenge_cache").clear()


_built: list[Path] = []


def prepare_home(home: Path) -> None:
    """Make a lab home with the default estate, as a copy of the one that was built first.

    Making keys and signing in take most of a lab's start; one lab a process does it. The
    copy has settings of its own and begins at the present.
    """
    if not _built:
        first = Path(tempfile.mkdtemp(prefix="built-"))
        commands.up(first, fast=True)
        commands.set_clock(first, speed=0)
        commands.down(first)
        for name in ("settings.json", "server.json", "server.log", "server.lock"):
            (first / name).unlink(missing_ok=True)
        _built.append(first)
    shutil.copytree(_built[0], home, dirs_exist_ok=True)
    clock = LabClock(home / "clock.json")
    clock.set(now_ms=max(clock.now_ms(), int(time.time() * 1000)), speed=1.0)


@pytest.fixture(scope="session", autouse=True)
def _forget_built() -> Iterator[None]:
    yield
    while _built:
        shutil.rmtree(_built.pop(), ignore_errors=True)


@pytest.fixture(scope="session", name="prepare_home")
def prepare_home_fixture() -> Callable[[Path], None]:
    """The function that makes a lab home with the default estate."""
    return prepare_home


def start_lab(**options: Any) -> Iterator[RunningLab]:
    forget_challenges()
    home = Path(tempfile.mkdtemp(prefix="lab-"))
    try:
        if "estate" not in options:
            prepare_home(home)
        commands.up(home, **{"fast": True, **options})
        yield RunningLab(home)
    finally:
        forget_challenges()
        commands.down(home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session", name="start_lab")
def start_lab_fixture() -> Any:
    """The function that starts a lab with options of its own."""
    return start_lab


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """A fast lab with the default estate, shared by the tests of one module."""
    yield from start_lab()


@pytest.fixture
def own_lab() -> Iterator[RunningLab]:
    """A fast lab with the default estate, for a test that breaks it."""
    yield from start_lab()
