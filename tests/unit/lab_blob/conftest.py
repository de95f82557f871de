"""A store with one account and one container, without any server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drengine.lab.blob import domain
from drengine.lab.store import Store

ACCOUNT = "contoso-backups"
CONTAINER = "hsm-backups"
NOW_MS = 1_800_000_000_000


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = NOW_MS

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    made = Store(tmp_path / "lab.db", clock)
    with made.transaction() as tx:
        domain.create_account(
            tx, subscription="s", resource_group="g", account=ACCOUNT, location="westeurope"
        )
        domain.create_container(tx, ACCOUNT, CONTAINER)
    yield made
    made.close()
