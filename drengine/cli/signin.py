"""Signing in, and making sure that it is the place the plan means.

Rules: who is signed in, and where, is compared with the plan before any other request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from drengine.azure.auth import AuthKind, session_of
from drengine.azure.cloud import AzureCloud
from drengine.cli.places import lab_folder
from drengine.errors import GuardError, LabMismatch
from drengine.model.plan import CloudIdentity


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A cloud with somebody signed in to it."""

    cloud: AzureCloud
    where: CloudIdentity


@asynccontextmanager
async def signed_in(auth: AuthKind) -> AsyncIterator[SignedIn]:
    """Open a session and ask who it is.

    Raises:
        NotAuthorized: nobody is signed in that way.
        LabMismatch: lab and cloud would be mixed up.
        AzureError: the sign-in did not come to an end in time.
    """
    session = await session_of(auth, lab_folder() is not None)
    async with AzureCloud(session) as cloud:
        yield SignedIn(cloud, await cloud.identity.whoami())


def check_identity(plan: CloudIdentity, found: CloudIdentity) -> None:
    """Refuse to act elsewhere, or as somebody else, than the plan says.

    Raises:
        LabMismatch: one is a lab, the other is not.
        GuardError: names everything that differs.
    """
    if plan.lab != found.lab:
        planned, here = ("a lab", "Azure") if plan.lab else ("Azure", "a lab")
        raise LabMismatch(
            f"the plan was made for {planned}, this session is in {here}; nothing was sent",
            hint="drengine lab exec -- drengine run PLAN" if plan.lab else "unset DRENGINE_LAB",
        )
    wanted, have = plan.to_json(), found.to_json()
    wrong = [
        f"{name}: the plan says {wanted[name]}, this session {have[name] or 'does not tell'}"
        for name in wanted
        if wanted[name] and wanted[name] != have[name]
    ]
    if wrong:
        raise GuardError(
            f"this session is not the plan's; nothing was sent. {'; '.join(wrong)}",
            hint="'az account set --subscription …' or 'az login' as the plan says, or plan again",
        )
