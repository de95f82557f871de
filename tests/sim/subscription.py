"""What surrounds the target in memory: its provider, its region, the identity it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drengine.model.cloud import HsmOffer, Permission

if TYPE_CHECKING:
    from sim.cloud import SimCloud


class SimSubscription:
    """A subscription in which everything is as it must be."""

    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud

    async def hsm_offer(self) -> HsmOffer:
        await self._cloud.read("subscription.hsm_offer")
        return HsmOffer("Registered", ("northeurope", "westeurope"))

    async def geographies(self) -> dict[str, str]:
        await self._cloud.read("subscription.geographies")
        return {"northeurope": "Europe", "westeurope": "Europe"}

    async def permissions(self, scope: str) -> list[Permission]:
        await self._cloud.read("subscription.permissions")
        return [Permission(("*",))] if scope else []

    async def has_identity(self, identity: str) -> bool:
        await self._cloud.read("subscription.has_identity")
        return bool(identity)
