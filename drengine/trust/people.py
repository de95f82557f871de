"""People who may approve, and their public keys. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from drengine.model.canonical import Json
from drengine.model.times import utc_text


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key and when it counts.

    Attributes:
        kind: `p256` (PEM), `ssh` (a line of authorized_keys) or `cms` (a certificate in PEM).
        public: the text of the key.
        not_before_ms, not_after_ms, revoked_ms: None where there is no such limit.
    """

    kind: str
    keyid: str
    public: str
    not_before_ms: int | None = None
    not_after_ms: int | None = None
    revoked_ms: int | None = None

    def refuses(self, at_ms: int) -> str:
        """Say why the key does not count at this time; empty where it does."""
        if self.not_before_ms is not None and at_ms < self.not_before_ms:
            return f"the key is not valid before {utc_text(self.not_before_ms)}"
        if self.not_after_ms is not None and at_ms > self.not_after_ms:
            return f"the key has not been valid since {utc_text(self.not_after_ms)}"
        if self.revoked_ms is not None and at_ms >= self.revoked_ms:
            return f"the key was revoked at {utc_text(self.revoked_ms)}"
        return ""

    def to_json(self) -> dict[str, Json]:
        """Return the key with its text."""
        doc: dict[str, Json] = {"kind": self.kind, "keyid": self.keyid, "public": self.public}
        for name, ms in (
            ("not_before", self.not_before_ms),
            ("not_after", self.not_after_ms),
            ("revoked", self.revoked_ms),
        ):
            if ms is not None:
                doc[name] = utc_text(ms)
        return doc


@dataclass(frozen=True, slots=True)
class Approver:
    """A person who may approve.

    Attributes:
        accounts: names under which this person starts runs: none of their own runs is approved.
        simulated: a drill plays this person; counts in a drill in a lab only.
    """

    name: str
    roles: tuple[str, ...]
    keys: tuple[TrustedKey, ...]
    accounts: tuple[str, ...] = ()
    simulated: bool = False

    @property
    def actor(self) -> str:
        """How the journal names this person."""
        return f"{'simulated:' if self.simulated else ''}approver:{self.name}"

    def is_initiator(self, initiator: str) -> bool:
        """Whether this person started the run."""
        name = initiator.rpartition(":")[2]
        return name == self.name or name in self.accounts

    def to_json(self) -> dict[str, Json]:
        """Return the person with all keys."""
        return {
            "name": self.name,
            "roles": list(self.roles),
            "accounts": list(self.accounts),
            "simulated": self.simulated,
            "keys": [key.to_json() for key in self.keys],
        }
