"""drengine's own adapters, signed in to a running lab."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from drengine.azure.auth import Session, open_session
from drengine.azure.cloud import AzureCloud
from drengine.lab import commands
from drengine.model.cloud import Operation, OperationState, OperationStatus


@pytest.fixture
def sign_in() -> Callable[[Any], Session]:
    """Sign in to a lab as its operator, without touching this process's environment."""

    def sign_in_to(lab: Any) -> Session:
        return open_session("environment", True, environ=commands.env(lab.home))

    return sign_in_to


@pytest.fixture
def finish() -> Callable[[AzureCloud, Operation], Awaitable[OperationStatus]]:
    """Poll an operation, as read back from its JSON, until it does not run any more."""

    async def polled(cloud: AzureCloud, operation: Operation) -> OperationStatus:
        operation = Operation.from_json(operation.to_json())
        async with asyncio.timeout(30):
            while True:
                status = await cloud.operations.poll(operation)
                if status.state is not OperationState.RUNNING:
                    return status
                await asyncio.sleep((status.retry_after_ms or 40) / 1000)

    return polled
