"""Where backups lie, and with what right the HSM reaches them."""

from __future__ import annotations

from shlex import quote
from typing import Final

from drengine.actions.contract import StepContext
from drengine.actions.sas import LIST_RIGHT, sas_facts
from drengine.errors import Waiting
from drengine.model.cloud import StorageTarget
from drengine.model.secret import USER_DELEGATION
from drengine.model.times import utc_seconds

_DAY_MS: Final = 86_400_000


def is_minted(ctx: StepContext) -> bool:
    """Whether the SAS is made with the operator's own sign-in, when it is needed."""
    return ctx.inputs.get("storage_sas") == USER_DELEGATION


def az_options(ctx: StepContext, rights: str) -> str:
    """Return how az is told the same, for whoever looks or goes on by hand.

    Parameters:
        rights: of a SAS that is made for it.
    """
    url = str(ctx.inputs["container_url"]).rstrip("/")
    place = f"--storage-resource-uri {quote(url)}"
    if not ctx.inputs.get("storage_sas"):
        return f"{place} --use-managed-identity true"
    return f"{place} -t {_az_sas(ctx, url, rights) if is_minted(ctx) else '$SAS'}"


def _az_sas(ctx: StepContext, url: str, rights: str) -> str:
    account, _, container = url.removeprefix("https://").partition("/")
    words = [
        "az storage container generate-sas --as-user --auth-mode login --https-only -o tsv",
        f"--account-name {quote(account.partition('.')[0])} --name {quote(container)}",
        f"--permissions {rights} --expiry {utc_seconds(ctx.now_ms + _DAY_MS)}",
    ]
    return f'"$({" ".join(words)})"'


async def storage_of(ctx: StepContext, rights: str = LIST_RIGHT) -> StorageTarget:
    """Return where backups lie, with the SAS where there is to be one.

    Parameters:
        rights: what a SAS that is made for this use allows; our own looks only list. One that
            was given is used as it is.

    Raises:
        Waiting: the SAS has expired while the run was under way; nothing was sent with it.
        NotAuthorized: the operator's sign-in may not make one.
    """
    url = str(ctx.inputs["container_url"]).rstrip("/")
    reference = ctx.inputs.get("storage_sas")
    if is_minted(ctx):
        return StorageTarget(url, await ctx.cloud.storage.delegated_sas(url, rights, ctx.now_ms))
    sas = ctx.secret(str(reference)) if reference else None
    expires = sas_facts(sas)["expires_ms"] if sas and ctx.step else None
    if expires is not None and expires <= ctx.now_ms:
        raise Waiting(
            f"the SAS {reference} expired at {utc_seconds(expires)}; nothing was sent with it",
            hint=f"Put a new one where {reference} points, then: drengine resume {ctx.root}",
        )
    return StorageTarget(url, sas)
