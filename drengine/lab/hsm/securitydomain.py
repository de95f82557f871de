"""The requests about the security domain: download, exchange key, upload, pending.

The operation is one per HSM: a HSM that was provisioned takes either the first download
or one upload, and is active afterwards. Both pending addresses tell the state of it.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from drengine.lab.hsm import roles, state
from drengine.lab.hsm.domain import UploadError, new_domain, open_upload, wrap_domain
from drengine.lab.hsm.exchange import EXCHANGE_BITS, new_exchange, open_exchange, transfer_jwk
from drengine.lab.hsm.jose import JoseError, unb64
from drengine.lab.wire import Call, LabFault, Response, Route, hsm_fault

if TYPE_CHECKING:
    from drengine.lab.world import Lab

JOB: Final = "hsm.domain"
MIN_KEY_BITS: Final = 2048
CERTIFICATES: Final = range(3, 11)
QUORUM: Final = range(2, 11)
_ACTIVE_TEXT: Final = "The resource is active."
_CONFIRMING_TEXT: Final = "The Security Domain is being confirmed."
_RESTORING_TEXT: Final = "The Security Domain is being restored."


def _load(call: Call, action: str) -> dict[str, Any]:
    hsm = state.load(call)
    state.refuse_while_restoring(call, hsm)
    roles.require(call, hsm["name"], action)
    return hsm


def _pending_url(call: Call, operation: str) -> str:
    return f"https://{call.request.host}/securitydomain/{operation}/pending?api-version=7.2"


def _download(call: Call) -> Response:
    hsm = _load(call, "/securitydomain/download/action")
    phase = state.phase(hsm, call.tx.now_ms)
    if phase == state.RESTORING_DOMAIN:
        raise LabFault(409, "Conflict", "A security domain is being restored to this HSM.")
    certificates, required = _custodians(call.request.json_object())
    if phase == state.NOT_ACTIVATED:
        state.set_domain(call.tx, hsm, new_domain())
        hsm["phase"] = state.CONFIRMING
        hsm["pending"] = {"status": "InProgress", "status_details": _CONFIRMING_TEXT}
        due = call.tx.now_ms + int(call.lab.settings.sd_download * 1000)
        call.tx.schedule(JOB, {"hsm": hsm["name"], "expect": state.CONFIRMING}, due)
        state.store(call.tx, hsm)
    value = wrap_domain(state.domain_of(call.tx, hsm), certificates, required)
    call.effect, call.target = "hsm.domain.download", hsm["name"]
    headers = state.polling_headers(call, _pending_url(call, "download"))
    return state.answer(call, 202, {"value": value}, headers)


def _custodians(body: dict[str, Any]) -> tuple[list[x509.Certificate], int]:
    wanted, required = body.get("certificates"), body.get("required")
    if not isinstance(wanted, list) or len(wanted) not in CERTIFICATES:
        raise LabFault(400, "BadParameter", "Between 3 and 10 certificates are needed.")
    if not isinstance(required, int) or required not in QUORUM or required > len(wanted):
        raise LabFault(
            400, "BadParameter", "required must be between 2 and the number of certificates."
        )
    return [_certificate(one) for one in wanted], required


def _certificate(jwk: Any) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(jwk["x5c"][0]))
        key = certificate.public_key()
    except (KeyError, IndexError, TypeError, ValueError):
        raise LabFault(400, "BadParameter", "x5c must hold an X.509 certificate.") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < MIN_KEY_BITS:
        raise LabFault(400, "BadParameter", "Only RSA certificates of 2048 bits or more wrap.")
    if "n" in jwk and _number(jwk["n"]) != key.public_numbers().n:
        raise LabFault(400, "BadParameter", "The JWK's n is not the certificate's.")
    return certificate


def _number(text: Any) -> int:
    try:
        return int.from_bytes(unb64(str(text)), "big")
    except JoseError:
        return -1


def _transfer_key(call: Call) -> Response:
    hsm = _load(call, "/securitydomain/transferkey/read")
    _require_not_active(call, hsm)
    fresh = call.lab.settings.transfer_key_on_reget == "new"
    if hsm.get("exchange") is None or fresh:
        der = call.lab.keys.take(EXCHANGE_BITS)
        hsm["exchange"] = new_exchange(state.host_of(hsm["name"]), der, call.tx.now_ms)
        call.effect, call.target = "hsm.exchange-key", hsm["name"]
        state.store(call.tx, hsm)
    key = json.dumps(transfer_jwk(hsm["exchange"]), separators=(",", ":"))
    # the service sends the JWK as a string inside the JSON, unlike its own specification
    return state.answer(call, 200, {"key_format": "jwk", "transfer_key": key})


def _require_not_active(call: Call, hsm: dict[str, Any]) -> None:
    phase = state.phase(hsm, call.tx.now_ms)
    if phase == state.NOT_ACTIVATED:
        return
    if phase in {state.RESTORING_DOMAIN, state.CONFIRMING}:
        raise LabFault(409, "Conflict", "A security domain operation is in progress.")
    status = call.lab.settings.upload_on_active
    code = "Conflict" if status == 409 else "BadParameter"  # noqa: PLR2004 - a setting
    raise LabFault(status, code, "The Managed HSM has been activated already.")


def _upload(call: Call) -> Response:
    hsm = _load(call, "/securitydomain/upload/action")
    _require_not_active(call, hsm)
    value = call.request.json_object().get("value")
    if not isinstance(value, str):
        raise LabFault(400, "BadParameter", "value must be the restore blob as a string.")
    if hsm.get("exchange") is None:
        raise LabFault(400, "BadParameter", "The exchange key of this HSM was never read.")
    try:
        domain = open_upload(value, *open_exchange(hsm["exchange"]))
        state.set_domain(call.tx, hsm, domain)
    except UploadError as error:
        if error.malformed:
            raise LabFault(400, "BadParameter", str(error)) from None
        hsm["pending_failure"] = str(error)
    hsm["phase"] = state.RESTORING_DOMAIN
    hsm["pending"] = {"status": "InProgress", "status_details": _RESTORING_TEXT}
    state.store(call.tx, hsm)
    due = call.tx.now_ms + int(call.lab.settings.sd_upload * 1000)
    call.tx.schedule(JOB, {"hsm": hsm["name"], "expect": state.RESTORING_DOMAIN}, due)
    call.effect, call.target = "hsm.domain.upload", hsm["name"]
    headers = state.polling_headers(call, _pending_url(call, "upload"))
    return state.answer(call, 202, hsm["pending"], headers)


def _pending(call: Call) -> Response:
    operation = call.match["operation"].lower()
    hsm = _load(call, f"/securitydomain/{operation}/read")
    found = hsm.get("pending")
    if found is None:
        raise LabFault(404, "NotFound", "No security domain operation has been started.")
    headers = state.polling_headers(call, _pending_url(call, operation))
    return state.answer(call, 200, found, headers)


def finish(lab: Lab, payload: dict[str, Any]) -> None:
    """Job: end the security-domain operation of a HSM."""
    with lab.store.transaction() as tx:
        hsm = tx.get(state.HSM, payload["hsm"])
        if hsm is None or hsm["phase"] != payload["expect"]:
            return
        failure = hsm.pop("pending_failure", None)
        if failure is None:
            hsm["phase"] = state.ACTIVE
            hsm["exchange"] = None
            hsm["pending"] = {"status": "Success", "status_details": _ACTIVE_TEXT}
            tx.log_effect("hsm.activated", hsm["name"], {"fingerprint": hsm["fingerprint"]})
        else:
            hsm["phase"] = state.NOT_ACTIVATED
            hsm["pending"] = {"status": "Failed", "status_details": failure}
            tx.log_effect("hsm.domain.failed", hsm["name"], {"reason": failure})
        state.store(tx, hsm)


ROUTES: Final[tuple[Route, ...]] = tuple(
    Route(state.HOST, method, path, handler, "hsm", hsm_fault)
    for method, path, handler in (
        ("POST", "/securitydomain/download", _download),
        ("GET", "/securitydomain/upload", _transfer_key),
        ("POST", "/securitydomain/upload", _upload),
        ("GET", "/securitydomain/(?P<operation>download|upload)/pending", _pending),
    )
)
