"""`ceremony script`: the numbered paper script, as a page to print or as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from drengine.cli import output
from drengine.cli.places import open_clock
from drengine.cli.quorum.asking import (
    FILE,
    STANDARD,
    chosen_class,
    class_option,
    read_message,
    write_message,
)
from drengine.cli.quorum.registers import say_remarks

if TYPE_CHECKING:
    from drengine.ceremony.domain import SecurityDomain
    from drengine.ceremony.script import Script


@click.command("script")
@click.option("--sd-file", type=FILE, required=True, help="The security-domain file.")
@click.option("--runbook", default="mhsm-full-recovery", show_default=True, help="Name or path.")
@click.option("--request", type=FILE, help="The open ceremony's request, to print its code.")
@click.option("--register", type=FILE, help="The custodian register, for names.")
@class_option
@click.option("--out", type=FILE, required=True, help="FILE.html to print, else text; or '-'.")
@output.output_option
def script_command(
    *,
    sd_file: Path,
    runbook: str,
    request: Path | None,
    register: Path | None,
    run_class: str | None,
    out: Path,
    output_format: str,
) -> int:
    """Write the paper script: numbered steps, roles, boxes for time and initials, exceptions."""
    from drengine.ceremony.domain import (  # noqa: PLC0415 - lazy for --help
        MAX_DOMAIN_BYTES,
        parse_security_domain,
    )
    from drengine.ceremony.files import read_input  # noqa: PLC0415 - lazy for --help
    from drengine.evidence.render import render_script  # noqa: PLC0415 - lazy for --help

    domain = parse_security_domain(
        read_input(sd_file, "the security-domain file", max_bytes=MAX_DOMAIN_BYTES)
    )
    script = _script(domain, runbook, request, register, chosen_class(run_class))
    html = out.suffix in (".html", ".htm")
    write_message(out, render_script(script, html=html).encode(), "the script")
    if output_format == "json" and out != STANDARD:
        output.emit("drengine/ceremony-script/v1", {"out": str(out), "steps": len(script.steps)})
    elif out != STANDARD:
        output.say(f"✓ {len(script.steps)} steps: {out}")
    return 0


def _script(
    domain: SecurityDomain,
    runbook: str,
    request: Path | None,
    register: Path | None,
    run_class: str,
) -> Script:
    from drengine.ceremony.register import Register  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.registry import read_register  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.request import MAX_REQUEST_BYTES, parse_request  # noqa: PLC0415
    from drengine.ceremony.script import make_script  # noqa: PLC0415 - lazy for --help
    from drengine.cli.library import (  # noqa: PLC0415 - lazy for --help
        Library,
        catalogue,
        find_document,
    )

    asked = None
    if request is not None:
        data = read_message(request, "the ceremony request", MAX_REQUEST_BYTES)
        asked = parse_request(data.removesuffix(b"\n"))
    known = Register() if register is None else read_register(register)
    say_remarks(known)
    now_ms = open_clock().now_ms()
    entries = [known.of(x5t_256, now_ms) for x5t_256 in domain.custodians]
    names = ["" if entry is None else entry.name for entry in entries]
    if asked is not None:
        names = [one.name for one in asked.custodians]
    return make_script(
        Library(catalogue()).load(find_document(runbook)),
        run_class=asked.run_class if asked else run_class,
        required=domain.required,
        custodians=len(domain.custodians),
        names=names,
        request=asked,
    )
