"""Who is played in a drill, with keys made for this drill alone.

The private keys live in this process and end with it; the trust folder beside the bundle
holds the public halves, each marked as simulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drengine.trust.enrolling import Entry, enrol
from drengine.trust.keys import PrivateKey, make_key, public_pem
from drengine.trust.signers import KeySigner

_NAMES: Final = {
    "incident-commander": "ada",
    "security-officer": "bruno",
    "hsm-administrator": "chiara",
    "database-owner": "dmitri",
}
_ANYBODY: Final = "approver"
_SEATS: Final = 3
"""How many people of each role are played: enough for any gate of the shipped runbooks."""


@dataclass(frozen=True, slots=True)
class Cast:
    """The played approvers and the key that seals the drill's evidence."""

    signers: Mapping[str, KeySigner]
    sealing: PrivateKey

    @staticmethod
    def name(role: str, number: int) -> str:
        """Return who plays the approver of that number in a role."""
        name = _NAMES.get(role, _ANYBODY)
        return f"{name}-{number + 1}" if number else name


def engage(trust: Path) -> Cast:
    """Make the keys and the trust folder that names them.

    Raises:
        InputFileError: the folder cannot be written.
    """
    sealing = make_key()
    entries = [Entry("engine", "p256", public_pem(sealing), sealer=True)]
    signers = {}
    for role in (*_NAMES, ""):
        for number in range(_SEATS):
            name = Cast.name(role, number)
            key = make_key()
            signers[name] = KeySigner(key)
            roles = (role,) if role else ()
            entries.append(Entry(name, "p256", public_pem(key), roles, simulated=True))
    enrol(trust, *entries)
    return Cast(signers, sealing)
