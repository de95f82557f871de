"""Azure as one object: every adapter over one session, closed once at the end.

async with AzureCloud(open_session("azure-cli", lab=False)) as cloud:
    await cloud.identity.whoami()
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.mgmt.core import AsyncARMPipelineClient

from drengine.azure import ports
from drengine.azure.auth import Session
from drengine.azure.endpoints import host_of
from drengine.azure.hsm_clients import load_while_waiting
from drengine.azure.hsm_data import AzureHsmData
from drengine.azure.hsms import ArmHsms
from drengine.azure.operations import HttpOperations, Sender
from drengine.azure.rows import LabRows
from drengine.azure.sql import ArmSqlInstances
from drengine.azure.storage import BlobStorage
from drengine.azure.subscription import ArmSubscription
from drengine.errors import GuardError


class AzureCloud:
    """`ports.Cloud` over one session; an asynchronous context manager."""

    identity: ports.Identity
    hsms: ports.ManagedHsms
    subscription: ports.Subscription
    sql: ports.SqlInstances
    storage: ports.Storage
    rows: ports.DatabaseRows
    operations: ports.Operations

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pipeline = session.pipeline()
        self._data: dict[str, AzureHsmData] = {}
        self._manager: AsyncARMPipelineClient[HttpRequest, AsyncHttpResponse] | None = None
        self.identity = session
        self.hsms = ArmHsms(self._pipeline, session.subscription)
        self.subscription = ArmSubscription(
            self._pipeline, session.subscription, self._resource_manager
        )
        self.sql = ArmSqlInstances(self._pipeline, session.subscription, self._resource_manager)
        self.storage = BlobStorage(self._pipeline)
        self.rows = LabRows(self._pipeline, lab=session.lab)
        self.operations = HttpOperations(
            self._pipeline, self._resource_manager, self._hsm_sender, load_while_waiting
        )

    def hsm(self, uri: str) -> ports.HsmData:
        """Return the data plane of the HSM at `uri` (`https://NAME.managedhsm…/`).

        Raises:
            GuardError: the host is not a Managed HSM of this cloud.
        """
        return self._hsm(uri)

    async def __aenter__(self) -> Self:
        await self._session.transport.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    def _hsm(self, uri: str) -> AzureHsmData:
        host = host_of(uri)
        if not self._pipeline.endpoints.is_hsm(host):
            raise GuardError(
                f"{uri} is not a Managed HSM of {self._pipeline.endpoints.name}: its host must "
                f"end with .{self._pipeline.endpoints.hsm_suffix}; nothing was sent"
            )
        return self._data.setdefault(host, AzureHsmData(self._pipeline, f"https://{host}"))

    def _hsm_sender(self, uri: str) -> Sender:
        return self._hsm(uri).clients.backups

    def _resource_manager(self) -> Sender:
        if self._manager is None:
            options = self._pipeline.resource_manager_options()
            del options["credential_scopes"]  # the policy has them already
            self._manager = AsyncARMPipelineClient(**options)
        return self._manager
