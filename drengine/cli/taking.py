"""Taking an inventory."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from drengine.actions.inventory import take_inventory
from drengine.azure.auth import AuthKind
from drengine.ceremony.domain import MAX_DOMAIN_BYTES, parse_security_domain
from drengine.cli import output
from drengine.cli.places import open_clock
from drengine.cli.signin import SignedIn, signed_in
from drengine.cli.writing import read_bounded, write_private
from drengine.errors import AzureError, InputError
from drengine.model.canonical import sha256_hex
from drengine.model.cloud import StorageTarget
from drengine.model.folders import folder_prefix
from drengine.model.runbook import InputSpec, InputType
from drengine.model.times import utc_text
from drengine.runbook.input_types import MistypedInput, typed_value

_NOT_FOUND: Final = 404


def take(
    hsm: str,
    out: Path,
    sd_file: Path | None,
    container_url: str,
    auth: AuthKind,
    output_format: str,
) -> int:
    """Take the inventory, write it, say what is in it."""
    container_url = _checked_url(container_url)
    domain = _domain(sd_file) if sd_file else None
    notes: list[str] = []
    doc = asyncio.run(_take(hsm, domain, container_url, auth, notes))
    content = json.dumps(doc, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    write_private(out, content, "the inventory")
    counts = {
        name: len(doc[name])
        for name in ("keys", "canaries", "roles", "backups", "instances", "failover_groups")
    }
    # Each side lists the group that both are in.
    counts["failover_groups"] = len({each["name"] for each in doc["failover_groups"]})
    counts["databases"] = sum(len(each["databases"]) for each in doc["instances"])
    if output_format == "json":
        facts = {"file": str(out), "sha256": sha256_hex(content), "notes": notes}
        output.emit("drengine/inventory-taken/v1", {**facts, "counts": counts})
        return 0
    for note in notes:
        output.talk(f"⚠ {note}")
    listed = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    output.say(f"✓ {out}: {listed}")
    output.say(f"  SHA-256 {sha256_hex(content)}")
    output.say("Next: keep it with the backup, away from the HSM's region.")
    return 0


def _domain(path: Path) -> dict[str, Any]:
    data = read_bounded(path, "the security-domain file", MAX_DOMAIN_BYTES)
    domain = parse_security_domain(data)
    return {
        "sha256": domain.sha256,
        "required": domain.required,
        "custodians": list(domain.custodians),
    }


async def _take(
    hsm: str, domain: dict[str, Any] | None, container_url: str, auth: AuthKind, notes: list[str]
) -> dict[str, Any]:
    async with signed_in(auth) as session, _none_left_running():
        await _look_for_container(session, hsm, container_url)
        return await take_inventory(
            session.cloud,
            session.where,
            hsm_name=hsm,
            security_domain=domain,
            taken_at=utc_text(open_clock().now_ms()),
            entropy=secrets.token_bytes,
            container_url=container_url,
            report=notes.append,
        )


def _checked_url(url: str) -> str:
    """Return the container's URL, of the form that a plan takes."""
    if not url:
        return ""
    spec = InputSpec("container_url", InputType.URL)
    try:
        return str(typed_value(spec, url, now="", allow_lab_names=True)).rstrip("/")
    except MistypedInput as error:
        raise InputError(
            f"--container-url: {error}; nothing was asked",
            hint="It looks like https://ACCOUNT.blob.core.windows.net/CONTAINER",
        ) from None


async def _look_for_container(session: SignedIn, hsm: str, url: str) -> None:
    """Look for the container before anything else is read.

    Raises:
        InputError: there is none.
    """
    if not url:
        return
    try:
        await session.cloud.storage.list_folders(StorageTarget(url), folder_prefix(hsm))
    except AzureError as error:
        if error.status == _NOT_FOUND:
            raise InputError(
                f"there is no container {url} ({error.message}); no inventory was taken",
                hint="Mend --container-url, or leave it out: then no backups are listed.",
            ) from None
        raise


@asynccontextmanager
async def _none_left_running() -> AsyncIterator[None]:
    """Let no look go on behind an error: it would open connections that nobody closes."""
    before = asyncio.all_tasks()
    try:
        yield
    except BaseException:
        left = asyncio.all_tasks() - before
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        raise
