"""Opening and re-wrapping the keys of an instance's databases, through the HSM.

A database's wrapped key says with which key it was wrapped. That key may be gone while
the same material lives under another name; the candidates are tried in an order that the
caller chooses, and what was opened is proven by decrypting the database's rows.

Rules:
- no transaction is open here: each attempt is an HTTPS call;
- a key that refused once is not asked again in the same `Ring`, so that a dead HSM costs
  one failed call and not one for each database.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from drengine.lab.sql import cells, keycalls, state
from drengine.lab.sql.faults import refusal
from drengine.lab.sql.keycalls import KeyRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drengine.lab.sql.keycalls import Caller
    from drengine.lab.store import Tx
    from drengine.lab.world import Lab


@dataclass(slots=True)
class Ring:
    """The keys that an instance can try, and those that have refused.

    Parameters:
        lab: the way to the HSM.
        caller: the instance's identity.
        service_key: the instance's own key, for databases under the service-managed one.
        linked: thumbprint and identifier of each linked key, the preferred ones first.
    """

    lab: Lab
    caller: Caller
    service_key: str
    linked: tuple[tuple[str, str], ...]
    refused: dict[str, KeyRefused] = field(default_factory=dict)

    def open_dek(self, doc: state.Doc, *, spares: bool) -> tuple[bytes, str]:
        """Return a database's key and the identifier of the key that opened it.

        Parameters:
            doc: the database.
            spares: whether other linked keys of the same material may be tried.

        Raises:
            KeyRefused: the reason of the database's own key, when none opened it.
        """
        wrapped = base64.b64decode(doc["wrapped"])
        if not doc["key_uri"]:
            return self._open_service_managed(wrapped), ""
        first: KeyRefused | None = None
        for uri in self._candidates(doc, spares=spares):
            try:
                return self._open(doc, uri, wrapped), uri
            except KeyRefused as refused:
                self.refused[uri] = refused
                first = first or refused
        raise first or self.refused[doc["key_uri"]]

    def _candidates(self, doc: state.Doc, *, spares: bool) -> Iterable[str]:
        own = doc["key_uri"]
        if own not in self.refused:
            yield own
        if not spares:
            return
        for thumbprint, uri in self.linked:
            if thumbprint == doc["thumbprint"] and uri != own and uri not in self.refused:
                yield uri

    def _open(self, doc: state.Doc, uri: str, wrapped: bytes) -> bytes:
        dek = keycalls.unwrap(self.lab, self.caller, uri, wrapped)
        try:
            cells.open_rows(dek, doc["name"], doc["rows"])
        except cells.WrongKey:
            found = refusal("AzureKeyVaultKeyThumbprintIsDifferent", uri=uri)
            raise KeyRefused(found) from None
        return dek

    def _open_service_managed(self, wrapped: bytes) -> bytes:
        try:
            return cells.unwrap_with_service_key(self.service_key, wrapped)
        except InvalidTag:
            found = refusal("CMKOperationNotAllowed", server=self.caller.server)
            raise KeyRefused(found) from None


def ring_of(
    lab: Lab, tx: Tx, instance_key: str, doc: state.Doc, *, prefer: str = ""
) -> Ring | None:
    """Return the keys of an instance, None when it has no identity.

    Parameters:
        prefer: identifier of the key to try before the other spares; by default the
            current protector.
    """
    caller = state.caller_of(tx, doc)
    if caller is None:
        return None
    current = state.protector_key(tx, instance_key, doc)
    first = prefer or (current["resolved_uri"] if current else "")
    rows = [
        (row["thumbprint"], row["resolved_uri"]) for _, row in state.linked_keys(tx, instance_key)
    ]
    rows.sort(key=lambda row: row[1] != first)
    return Ring(lab, caller, state.service_key(tx, instance_key), tuple(rows))


def wrap_dek(ring: Ring, dek: bytes, uri: str) -> str:
    """Return a database's key wrapped by another key, as stored text.

    Raises:
        KeyRefused: the HSM refused or did not answer.
    """
    if uri:
        wrapped = keycalls.wrap(ring.lab, ring.caller, uri, dek)
    else:
        wrapped = cells.wrap_with_service_key(ring.service_key, dek)
    return base64.b64encode(wrapped).decode()
