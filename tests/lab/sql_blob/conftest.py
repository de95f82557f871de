"""A running lab for the storage and SQL clients, reached through its proxy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.identity import ClientSecretCredential
from azure.mgmt.sql import SqlManagementClient

from drengine.lab import commands
from drengine.lab.home import LabHome


@dataclass(frozen=True)
class Running:
    """A running lab and what a client of it needs."""

    home: Path
    status: dict[str, Any]

    @property
    def transport(self) -> dict[str, Any]:
        """Keyword arguments that lead every Azure client to the lab and nowhere else."""
        return {
            "proxies": {"https": self.status["proxy"]},
            "connection_verify": self.status["ca"],
            "use_env_settings": False,
        }

    @property
    def sign_in(self) -> tuple[str, str, str]:
        ids = LabHome(self.home).identity()
        return ids.tenant, ids.client_id, ids.client_secret

    def credential(self) -> Any:
        return ClientSecretCredential(*self.sign_in, **self.transport)

    def blob_url(self) -> str:
        return f"https://{self.status['storage']['account']}.blob.core.windows.net"

    def sql(self) -> Any:
        return SqlManagementClient(
            self.credential(), self.status["subscription"], polling_interval=0.05, **self.transport
        )


@pytest.fixture
def start(tmp_path: Path, prepare_home: Callable[[Path], None]) -> Iterator[Callable[..., Running]]:
    """Start labs that end with the test."""
    homes: list[Path] = []

    def begin(name: str = "lab", **settings: Any) -> Running:
        home = tmp_path / name
        homes.append(home)
        prepare_home(home)
        return Running(home, commands.up(home, fast=True, speed=300.0, settings=settings or None))

    yield begin
    for home in homes:
        commands.down(home)


@pytest.fixture(scope="module")
def lab(
    tmp_path_factory: pytest.TempPathFactory, prepare_home: Callable[[Path], None]
) -> Iterator[Running]:
    """One lab for all tests of a module that do not change it for one another."""
    home = tmp_path_factory.mktemp("lab") / "home"
    prepare_home(home)
    status = commands.up(home, fast=True, speed=300.0, settings={"enforce_recovery_level": False})
    yield Running(home, status)
    commands.down(home)
