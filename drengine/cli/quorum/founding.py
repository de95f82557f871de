"""`ceremony init-domain`: activate a new HSM and keep its security domain safely.

The answer holds the only copy: it is on the disk before anything else is done or asked.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from drengine.cli import output
from drengine.cli.places import open_clock
from drengine.cli.plan import auth_option
from drengine.cli.quorum.asking import FILE
from drengine.cli.quorum.registers import say_remarks
from drengine.engine.retry import look_again_ms
from drengine.errors import GuardError, QuorumError, StepFailed
from drengine.model.times import utc_seconds

if TYPE_CHECKING:
    from drengine.azure.cloud import AzureCloud
    from drengine.azure.ports import AuthKind
    from drengine.ceremony.domain import SecurityDomain
    from drengine.model.cloud import Operation

_PATIENCE_MS: Final = 20 * 60_000
_MAX_CERTIFICATE_BYTES: Final = 64 * 1024


@click.command("init-domain")
@click.option("--hsm", required=True, help="The new HSM's name; it must not be active yet.")
@click.option(
    "--cert",
    "certificates",
    type=FILE,
    multiple=True,
    required=True,
    help="A custodian's certificate; 3 to 10 of them, in the order of their shares.",
)
@click.option(
    "--register",
    type=FILE,
    help="The custodian register; a certificate that is not enrolled in it is refused.",
)
@click.option("--quorum", type=int, required=True, help="How many custodians are needed.")
@click.option("--out", type=FILE, required=True, help="The security-domain file; must be new.")
@click.option(
    "--active-too",
    is_flag=True,
    help="Also download from an active HSM, wrapped anew for these certificates.",
)
@auth_option
@output.output_option
def init_domain_command(
    *,
    hsm: str,
    certificates: tuple[Path, ...],
    register: Path | None,
    quorum: int,
    out: Path,
    active_too: bool,
    auth: AuthKind,
    output_format: str,
) -> int:
    """Activate an HSM: download its security domain for N custodians, M of whom are needed.

    Each certificate's x5t#S256 is shown: compare it by voice with its custodian, or give
    the register in which they enrolled. The domain is written and synced before anything
    else happens. If the answer is lost on the way, nothing is: run the command again with
    --active-too.
    """
    from drengine.ceremony.files import read_input, require_new  # noqa: PLC0415 - lazy
    from drengine.ceremony.founding import check_custodians  # noqa: PLC0415 - lazy for --help

    require_new(out, "the security domain")
    record = out.with_name(f"{out.name}.record.json")
    require_new(record, "the record of the download")
    files = [
        read_input(path, "a custodian's certificate", max_bytes=_MAX_CERTIFICATE_BYTES)
        for path in certificates
    ]
    chosen = check_custodians(files, quorum)
    _recognise(certificates, chosen, register)
    facts = asyncio.run(_download(hsm, chosen, quorum, out, record, auth, active_too=active_too))
    if output_format == "json":
        output.emit("drengine/domain-created/v1", facts)
        return 0
    output.say(f"✓ {hsm} is active; its security domain: {out}")
    output.say(f"  SHA-256 {facts['sha256']}   (on the safe's card)")
    output.say(f"  {quorum} of {len(chosen)} custodians; record: {record}")
    output.say("Keep copies offline in two places, apart from the custodians' keys.")
    named = shlex.quote(str(register or "FOLDER"))
    output.say(f"Next: drengine ready --sd-file {shlex.quote(str(out))} --register {named}")
    return 0


def _recognise(paths: tuple[Path, ...], chosen: list[bytes], folder: Path | None) -> None:
    """Show whose certificates they are, on stderr, before anything is sent.

    Raises:
        QuorumError: one is not enrolled in the register.
    """
    from drengine.ceremony.founding import names_in  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.registry import read_register  # noqa: PLC0415 - lazy for --help

    register = None if folder is None else read_register(folder)
    say_remarks(register)
    names = names_in(register, chosen, open_clock().now_ms())
    for path, (x5t_256, name) in zip(paths, names, strict=True):
        output.talk(f"  {path.name}  x5t#S256 {x5t_256}  {name}".rstrip())
    unknown = [str(path) for path, (_, name) in zip(paths, names, strict=True) if not name]
    if register is None:
        output.talk("Compare each x5t#S256 by voice with its custodian, or give --register.")
    elif unknown:
        raise QuorumError(
            f"making a security domain: {', '.join(unknown)} is not enrolled in {folder}, so "
            "nobody has said who holds its key; nothing was sent",
            hint="Its custodian enrols with 'drengine ceremony enroll'; 'drengine ready' tells of "
            "entries that stand against each other.",
        )


async def _download(
    hsm: str,
    certificates: list[bytes],
    quorum: int,
    out: Path,
    record: Path,
    auth: AuthKind,
    *,
    active_too: bool,
) -> dict[str, Any]:
    from drengine.ceremony.files import write_new  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.founding import check_new_domain  # noqa: PLC0415 - lazy for --help
    from drengine.cli.signin import signed_in  # noqa: PLC0415 - loads Azure's libraries

    async with signed_in(auth) as session:
        uri = await _target(session.cloud, hsm, active_too=active_too)
        domain, operation = await session.cloud.hsm(uri).start_download(certificates, quorum)
        # Before anything else, even before it is looked at: this is the only copy.
        write_new(out, domain, "the security domain")
        found = check_new_domain(domain, certificates, quorum)
        facts = _facts(hsm, uri, found, operation)
        write_new(record, json.dumps(facts, indent=2).encode() + b"\n", "the record")
        await _confirmed(session.cloud, operation)
    return {**facts, "out": str(out)}


async def _target(cloud: AzureCloud, name: str, *, active_too: bool) -> str:
    found = await cloud.hsms.find(name)
    if found is None:
        raise GuardError(f"there is no HSM {name} in this subscription; nothing was sent")
    if found.activation_status == "Active" and not active_too:
        raise GuardError(
            f"{name} is active already: it has a security domain; nothing was sent",
            hint="To wrap its domain for these certificates, add --active-too, or plan the runbook "
            "custodian-rekey. The custodians of earlier copies can still open those copies.",
        )
    return found.uri


def _facts(hsm: str, uri: str, found: SecurityDomain, operation: Operation) -> dict[str, Any]:
    return {
        "schema": "drengine/domain-record/v1",
        "hsm": hsm,
        "uri": uri,
        "sha256": found.sha256,
        "size": found.size_bytes,
        "required": found.required,
        "custodians": list(found.custodians),
        "downloaded": utc_seconds(open_clock().now_ms()),
        "request_id": operation.request_id,
    }


async def _confirmed(cloud: AzureCloud, operation: Operation) -> None:
    from drengine.model.cloud import OperationState  # noqa: PLC0415 - lazy for --help

    clock = open_clock()
    began = clock.now_ms()
    while clock.now_ms() - began < _PATIENCE_MS:
        status = await cloud.operations.poll(operation)
        if status.state in (OperationState.SUCCEEDED, OperationState.LOST):
            return
        if status.state is OperationState.FAILED:
            raise StepFailed(
                f"the download is kept, but the service says: {status.error_code} {status.detail}",
                hint="Look at the HSM's activation status before the domain is relied on.",
            )
        now = clock.now_ms()
        wait = look_again_ms(now - began, 0, status.retry_after_ms)
        await clock.sleep_until(now + wait)
    raise StepFailed(
        "the download is kept, but the HSM does not confirm it yet",
        hint="az keyvault security-domain wait --target-operation download",
    )
