"""The SDK clients of one Managed HSM, made when first used, all over one pipeline."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING

from drengine.azure.pipeline import Pipeline

if TYPE_CHECKING:
    from azure.keyvault.administration.aio import KeyVaultAccessControlClient, KeyVaultBackupClient
    from azure.keyvault.keys.aio import KeyClient
    from azure.keyvault.securitydomain.aio import SecurityDomainClient


def load_while_waiting() -> None:
    """Load the libraries of the data plane on a thread of its own.

    Half a second that a recovery would otherwise spend between its steps; while a HSM is
    being created nothing else is to be done.
    """
    Thread(target=_load, name="loading", daemon=True).start()


def _load() -> None:
    for name in ("administration", "keys", "securitydomain"):
        with suppress(ImportError):  # whoever needs it will say so
            import_module(f"azure.keyvault.{name}.aio")


class HsmClients:
    """Clients for backups, the security domain, keys and roles of the HSM at `uri`.

    They are never closed one by one: the transport is the session's.
    """

    def __init__(self, pipeline: Pipeline, uri: str) -> None:
        self.pipeline = pipeline
        self.uri = uri.rstrip("/")
        self._backups: KeyVaultBackupClient | None = None
        self._domain: SecurityDomainClient | None = None
        self._keys: KeyClient | None = None
        self._roles: KeyVaultAccessControlClient | None = None

    @property
    def backups(self) -> KeyVaultBackupClient:
        """The client for backup, restore and their jobs."""
        if self._backups is None:
            from azure.keyvault.administration.aio import (  # noqa: PLC0415 (113 ms, when needed)
                KeyVaultBackupClient,
            )

            self._backups = KeyVaultBackupClient(
                self.uri, self.pipeline.credential, **self.pipeline.client_options()
            )
        return self._backups

    @property
    def domain(self) -> SecurityDomainClient:
        """The client for the security domain."""
        if self._domain is None:
            from azure.keyvault.securitydomain.aio import (  # noqa: PLC0415 (114 ms, when needed)
                SecurityDomainClient,
            )

            self._domain = SecurityDomainClient(
                self.uri, self.pipeline.credential, **self.pipeline.client_options()
            )
        return self._domain

    @property
    def keys(self) -> KeyClient:
        """The client for keys and for their use."""
        if self._keys is None:
            from azure.keyvault.keys.aio import KeyClient  # noqa: PLC0415 (142 ms, when needed)

            self._keys = KeyClient(
                self.uri, self.pipeline.credential, **self.pipeline.client_options()
            )
        return self._keys

    @property
    def roles(self) -> KeyVaultAccessControlClient:
        """The client for role assignments."""
        if self._roles is None:
            from azure.keyvault.administration.aio import (  # noqa: PLC0415 (113 ms, when needed)
                KeyVaultAccessControlClient,
            )

            self._roles = KeyVaultAccessControlClient(
                self.uri, self.pipeline.credential, **self.pipeline.client_options()
            )
        return self._roles
