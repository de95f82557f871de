"""How an instance uses a key: real HTTPS to the HSM with the instance's identity.

Every check that SQL makes of a key is made here, from what the HSM answers. Nothing
is read from the HSM's state behind its back, so a missing role assignment, a disabled
version or a purged HSM shows exactly where it would in Azure.

Rules:
- never called while a transaction is open: the HSM needs one to answer;
- an answer that says no is a refusal (`KeyRefused`); no answer at all, or one that cannot be
  read, is an outage (`KeyRefused` with `outage`), because SQL treats the two differently.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.hsm import network
from drengine.lab.sql import cells
from drengine.lab.sql.faults import Refusal, refusal
from drengine.lab.sql.names import parse_key_uri

if TYPE_CHECKING:
    from drengine.lab.world import Lab

AUDIENCE: Final = "https://managedhsm.azure.net"
VAULT_AUDIENCE: Final = "https://vault.azure.net"
API_VERSION: Final = "7.5"
ALGORITHM: Final = "RSA-OAEP-256"
_SIZES: Final = (2048, 3072)
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """The instance on whose behalf a key is used."""

    server: str
    principal_id: str
    network: str = ""
    """Lower-cased id of the instance's virtual network."""
    region: str = ""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What is known of a key that passed all checks."""

    uri: str
    resolved_uri: str
    """The same key with its version, also where `uri` names none."""
    thumbprint: str


class KeyRefused(Exception):
    """A key cannot be used.

    Parameters:
        refusal: SQL's code and text for it.
        outage: whether the host did not answer at all.
    """

    def __init__(self, refusal_: Refusal, *, outage: bool = False) -> None:
        super().__init__(refusal_.message)
        self.refusal = refusal_
        self.outage = outage


def check_key(lab: Lab, caller: Caller, uri: str, *, is_new: bool) -> KeyFacts:
    """Check that a key can protect an instance.

    Reads it, checks type, size, state, times, and wraps and unwraps a random value.

    Parameters:
        is_new: whether to check the recovery level too, as for a key that is being
            linked; a key that is linked already is not held to it again.

    Raises:
        KeyRefused: with the first thing that is wrong.
    """
    bundle = _call(lab, caller, uri, "GET", "", None)
    key = cells.public_key(bundle["key"]) if bundle["key"].get("n") else None
    if key is None or key.key_size not in _SIZES or bundle["key"]["kty"] not in ("RSA", "RSA-HSM"):
        raise KeyRefused(refusal("AzureKeyVaultRsaKeyNotSupported", uri=uri))
    _check_state(lab, uri, bundle)
    _check_operations(uri, bundle)
    if is_new:
        _check_recovery_level(lab, uri, bundle)
    resolved = str(bundle["key"]["kid"])
    probe = secrets.token_bytes(cells.DEK_BYTES)
    if unwrap(lab, caller, resolved, wrap(lab, caller, resolved, probe)) != probe:
        raise KeyRefused(refusal("AkvKeyOperationNotAllowed", uri=uri, operation="unwrapKey"))
    return KeyFacts(uri, resolved, cells.thumbprint(key))


def check_usable(lab: Lab, caller: Caller, uri: str) -> None:
    """Check that a key is there, enabled and within its dates.

    An HSM still unwraps with a key that has expired; SQL does not use it any more.

    Raises:
        KeyRefused: with the first thing that is wrong.
    """
    _check_state(lab, uri, _call(lab, caller, uri, "GET", "", None))


def newest_version(lab: Lab, caller: Caller, uri: str) -> str:
    """Return the identifier of the newest version of the key that an identifier names.

    Raises:
        KeyRefused: the HSM refused or did not answer.
    """
    head, _, _ = uri.rpartition("/")
    return str(_call(lab, caller, head, "GET", "", None)["key"]["kid"])


def _check_state(lab: Lab, uri: str, bundle: dict[str, Any]) -> None:
    attributes = bundle.get("attributes", {})
    now = lab.clock.now_ms() // 1000
    if not attributes.get("enabled", True):
        raise KeyRefused(refusal("AzureKeyVaultKeyDisabled", uri=uri))
    if attributes.get("nbf", 0) > now or attributes.get("exp", now + 1) <= now:
        raise KeyRefused(refusal("AzureKeyVaultInvalidExpirationDate", uri=uri))


def _check_operations(uri: str, bundle: dict[str, Any]) -> None:
    for operation in ("wrapKey", "unwrapKey"):
        if operation not in bundle["key"].get("key_ops", ()):
            raise KeyRefused(refusal("AkvKeyOperationNotAllowed", uri=uri, operation=operation))


def _check_recovery_level(lab: Lab, uri: str, bundle: dict[str, Any]) -> None:
    level = bundle.get("attributes", {}).get("recoveryLevel", "")
    if lab.settings.enforce_recovery_level and "Purgeable" in level:
        raise KeyRefused(refusal("SecurityInvalidAzureKeyVaultRecoveryLevel", uri=uri, level=level))


def wrap(lab: Lab, caller: Caller, uri: str, dek: bytes) -> bytes:
    """Have the HSM wrap a key.

    Raises:
        KeyRefused: the HSM refused or did not answer.
    """
    return _transform(lab, caller, uri, "wrapkey", dek)


def unwrap(lab: Lab, caller: Caller, uri: str, wrapped: bytes) -> bytes:
    """Have the HSM unwrap a key.

    Raises:
        KeyRefused: the HSM refused or did not answer.
    """
    return _transform(lab, caller, uri, "unwrapkey", wrapped)


def _transform(lab: Lab, caller: Caller, uri: str, verb: str, value: bytes) -> bytes:
    body = {"alg": ALGORITHM, "value": cells.to_base64url(value)}
    answer = _call(lab, caller, uri, "POST", f"/{verb}", body)
    return cells.from_base64url(answer["value"])


def _call(
    lab: Lab, caller: Caller, uri: str, method: str, tail: str, body: dict[str, str] | None
) -> dict[str, Any]:
    parsed = parse_key_uri(uri)
    if parsed is None:
        raise KeyRefused(refusal("AzureKeyVaultInvalidUri", uri=uri))
    vault = parsed.host.endswith(".vault.azure.net")
    token = lab.token_for_identity(caller.principal_id, VAULT_AUDIENCE if vault else AUDIENCE)
    headers = {
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        network.ORIGIN_HEADER: _origin(lab, caller, uri, parsed.host),
    }
    sent = json.dumps(body).encode() if body is not None else b""
    url = f"{parsed.url}{tail}?api-version={API_VERSION}"
    try:
        answer = lab.https.request(method, url, headers=headers, body=sent)
    except TimeoutError:
        raise KeyRefused(refusal("AkvKeyTimeout", uri=uri), outage=True) from None
    except OSError:
        raise KeyRefused(refusal("AkvKeyDNS", uri=uri), outage=True) from None
    if answer.status != _OK:
        raise _refused(caller, uri, answer.status, answer.body)
    return _read(uri, answer.body)


def _read(uri: str, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise KeyRefused(refusal("AzureKeyVaultConnectionFailed", uri=uri), outage=True)
    return found


def _origin(lab: Lab, caller: Caller, uri: str, host: str) -> str:
    """Return where the instance's request comes from, for the HSM's firewall."""
    try:
        with lab.store.transaction() as tx:
            private = network.route(tx, caller.network, host)
    except network.NoRoute as none:
        raise KeyRefused(refusal(none.code, uri=uri), outage=True) from None
    told = {"network": caller.network, "region": caller.region, "private": private}
    return json.dumps(told, separators=(",", ":"))


def _refused(caller: Caller, uri: str, status: int, body: bytes) -> KeyRefused:
    text = body.decode(errors="replace").lower()
    if status >= 500 or status == 429:  # noqa: PLR2004 - an HSM that is busy or being restored
        return KeyRefused(refusal("AzureKeyVaultConnectionFailed", uri=uri), outage=True)
    if status == 404:  # noqa: PLR2004
        return KeyRefused(refusal("AkvKeyDeleted", uri=uri))
    if "not a trusted service" in text:
        return KeyRefused(refusal("AkvKeyOperationNotAllowedByFirewall", uri=uri))
    if "disabled" in text:
        return KeyRefused(refusal("AzureKeyVaultKeyDisabled", uri=uri))
    if "outside its dates" in text or "expired" in text or "not yet valid" in text:
        return KeyRefused(refusal("AzureKeyVaultInvalidExpirationDate", uri=uri))
    if status in (401, 403) and "not permitted on this key" not in text:
        return KeyRefused(
            refusal(
                "AzureKeyVaultMissingPermissions",
                server=caller.server,
                uri=uri,
                principal=caller.principal_id,
            )
        )
    return KeyRefused(refusal("AkvKeyOperationNotAllowed", uri=uri, operation="use"))
