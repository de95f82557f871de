"""The lab as its services see it: state, clock, settings, and a way to call itself.

The mapping of job names to functions comes from `drengine.lab.services`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drengine.lab.entra import mint_token

if TYPE_CHECKING:
    from pathlib import Path

    from drengine.lab.client import LoopbackClient
    from drengine.lab.clock import LabClock
    from drengine.lab.faults import FaultBook
    from drengine.lab.keypool import KeyPool
    from drengine.lab.settings import Settings
    from drengine.lab.store import Store
    from drengine.lab.tls import TrustAnchor


@dataclass(slots=True)
class Lab:
    """Everything a handler or a job may use."""

    home: Path
    store: Store
    clock: LabClock
    settings: Settings
    https: LoopbackClient
    tls: TrustAnchor
    keys: KeyPool
    faults: FaultBook
    tenant: str

    def token_for_identity(self, principal_id: str, audience: str) -> str:
        """Return a bearer of a managed identity, for a service that calls another one."""
        return mint_token(
            tenant=self.tenant,
            object_id=principal_id,
            app_id=principal_id,
            audience=audience,
            kind="identity",
            lifetime_seconds=self.settings.token_lifetime,
        )
