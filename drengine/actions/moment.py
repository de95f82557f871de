"""One look at the cloud: within it the same question is put once.

Facts that rules judge together are read for the same moment; several rules that need the
same resource then cost one request, and cannot be told two different things.

Rules:
- Only reads that say the same to everybody are shared; a send, a poll, a read that may
  itself change something (the exchange key) and the use of a key go through as they are.
- A look ends with the object: nothing is remembered for the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from drengine.azure.ports import (
    Cloud,
    HsmData,
    ManagedHsms,
    SqlInstances,
    Storage,
    Subscription,
)

_SHARED: Final = frozenset(
    {
        *("get", "find", "find_deleted", "check_name", "has_group"),  # Managed HSMs
        *("hsm_offer", "geographies", "has_identity", "permissions"),  # the subscription
        *("failover_groups", "keys", "protector", "databases", "busy"),  # managed instances
        *("list_blobs", "list_folders"),  # storage
        *("key_names", "role_assignments"),  # the data plane; `keys` as above
    }
)


class _Once:
    """Stands for a port; remembers the answers to its reads."""

    def __init__(self, port: object) -> None:
        self._port = port
        self._asked: dict[object, asyncio.Future[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        return self._shared(name, method) if name in _SHARED else method

    def _shared(
        self, name: str, method: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[..., Any]:
        async def ask(*arguments: Any) -> Any:
            key = (name, *(tuple(a) if isinstance(a, list) else a for a in arguments))
            if key not in self._asked:
                self._asked[key] = asyncio.ensure_future(method(*arguments))
            return await self._asked[key]

        return ask


class Moment:
    """A cloud at one moment; `ports.Cloud`.

    Parameters:
        cloud: what is asked.
    """

    def __init__(self, cloud: Cloud) -> None:
        self.identity = cloud.identity
        self.rows = cloud.rows
        self.operations = cloud.operations
        self.hsms = cast("ManagedHsms", _Once(cloud.hsms))
        self.subscription = cast("Subscription", _Once(cloud.subscription))
        self.sql = cast("SqlInstances", _Once(cloud.sql))
        self.storage = cast("Storage", _Once(cloud.storage))
        self._cloud = cloud
        self._data: dict[str, HsmData] = {}

    def hsm(self, uri: str) -> HsmData:
        """Return the data plane of the HSM at `uri`, for this moment."""
        if uri not in self._data:
            self._data[uri] = cast("HsmData", _Once(self._cloud.hsm(uri)))
        return self._data[uri]
