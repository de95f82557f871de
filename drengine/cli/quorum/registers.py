"""What the commands say of the custodian register, and whom their options name in it.

Not here: reading it (`ceremony.registry`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from drengine.cli import output
from drengine.cli.places import open_clock

if TYPE_CHECKING:
    from drengine.ceremony.register import Register


def say_remarks(register: Register | None) -> None:
    """Say on stderr what in the register does not count, and why."""
    if register is not None:
        for remark in register.remarks(open_clock().now_ms()):
            output.talk(f"⚠ register: {remark}.")


def certificate_of(holder: dict[str, Any]) -> str:
    """Return the x5t#S256 of the certificate that a custodian's options name; '' for none."""
    from drengine.ceremony.certificates import thumbprint_of  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.keyfile import find_certificate  # noqa: PLC0415 - lazy for --help
    from drengine.ceremony.messages import KeySource  # noqa: PLC0415 - lazy for --help

    beside: Path | None = holder["key"] or holder["module"]
    if beside is None:
        return ""
    # A token's certificate is always given, so nothing is looked for beside its module.
    if holder["key"] is None and holder["cert"] is None:
        return ""
    found = find_certificate(KeySource(beside, holder["cert"], None))
    return "" if found is None else thumbprint_of(found)
