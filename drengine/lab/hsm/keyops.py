"""The requests that use keys: wrap, unwrap, encrypt, decrypt, sign, verify, random bytes."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import padding as block_padding
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

from drengine.lab.hsm import keystore, state
from drengine.lab.hsm.jose import JoseError, b64, unb64
from drengine.lab.hsm.keysapi import KEY_NAME, VERSION
from drengine.lab.wire import Call, LabFault, Response, Route, hsm_fault

Fields: TypeAlias = dict[str, Any]
MAX_RANDOM_BYTES: Final = 128
_TAG_BYTES: Final = 16
_IV_BYTES: Final = 12

_ENCRYPTIONS: Final[dict[str, Callable[[], padding.AsymmetricPadding]]] = {
    "RSA-OAEP": lambda: padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),  # noqa: S303 - RFC 7518 defines RSA-OAEP with SHA-1
    "RSA-OAEP-256": lambda: padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
    "RSA1_5": padding.PKCS1v15,
}
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_OPERATIONS: Final = {
    "encrypt": ("/keys/encrypt/action", "encrypt"),
    "decrypt": ("/keys/decrypt/action", "decrypt"),
    "wrapkey": ("/keys/wrap/action", "wrapKey"),
    "unwrapkey": ("/keys/unwrap/action", "unwrapKey"),
    "sign": ("/keys/sign/action", "sign"),
    "verify": ("/keys/verify/action", "verify"),
}
_STOPPED_BY_DATES: Final = frozenset({"encrypt", "wrapKey", "sign"})
"""A key that is not yet or no longer valid still decrypts, unwraps and verifies."""


def _use(call: Call) -> Response:
    action, operation = _OPERATIONS[call.match["operation"].lower()]
    name = call.match["name"]
    hsm = state.load_active(call, action, scope=f"/keys/{name}")
    document, version = keystore.find(call.tx, hsm["name"], name, call.match["version"] or "")
    _require_usable(version, operation, call.tx.now_ms // 1000)
    body = call.request.json_object()
    kid = f"https://{call.request.host}/keys/{document['name']}/{version['version']}"
    if operation == "verify":
        return state.answer(call, 200, {"value": _verify(version, body)})
    result = _PERFORM[operation](version, body)
    members = {"alg": body.get("alg"), "kid": kid, **result}
    if state.is_vault(hsm):
        del members["alg"]
    return state.answer(call, 200, dict(sorted(members.items())))


def _require_usable(version: keystore.Version, operation: str, now: int) -> None:
    attributes = version["attributes"]
    if not attributes["enabled"]:
        raise LabFault(403, "Forbidden", f"Operation {operation} is not allowed on a disabled key.")
    if operation not in version["ops"]:
        raise LabFault(403, "Forbidden", f"Operation {operation} is not permitted on this key.")
    if operation not in _STOPPED_BY_DATES:
        return
    if attributes.get("nbf", now) > now or attributes.get("exp", now + 1) <= now:
        raise LabFault(
            403, "Forbidden", f"Operation {operation} is not allowed on a key outside its dates."
        )


def _bytes(body: Fields, member: str) -> bytes:
    found = body.get(member)
    if not isinstance(found, str) or not found:
        raise LabFault(400, "BadParameter", f"Property '{member}' has an invalid value.")
    try:
        return unb64(found)
    except JoseError:
        raise LabFault(400, "BadParameter", f"Property '{member}' is not base64url.") from None


def _unsupported(body: Fields) -> LabFault:
    return LabFault(
        400, "BadParameter", f"The algorithm '{body.get('alg')}' does not fit this key."
    )


def _encrypt(version: keystore.Version, body: Fields) -> Fields:
    if version["kty"] == "oct-HSM":
        return _oct_encrypt(version, body)
    key, scheme = _rsa(version, body)
    try:
        return {"value": b64(key.public_key().encrypt(_bytes(body, "value"), scheme))}
    except ValueError:
        raise LabFault(400, "BadParameter", "The value is too long for this key.") from None


def _decrypt(version: keystore.Version, body: Fields) -> Fields:
    if version["kty"] == "oct-HSM":
        return _oct_decrypt(version, body)
    key, scheme = _rsa(version, body)
    try:
        return {"value": b64(key.decrypt(_bytes(body, "value"), scheme))}
    except ValueError:
        raise LabFault(400, "BadParameter", "Decryption failed.") from None


def _rsa(
    version: keystore.Version, body: Fields
) -> tuple[rsa.RSAPrivateKey, padding.AsymmetricPadding]:
    scheme = _ENCRYPTIONS.get(str(body.get("alg")))
    if version["kty"] != "RSA-HSM" or scheme is None:
        raise _unsupported(body)
    key = keystore.load_private(version["material"])
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _unsupported(body)
    return key, scheme()


def _oct_key(version: keystore.Version, body: Fields, suffix: str) -> bytes:
    raw = base64.b64decode(version["material"])
    if body.get("alg") != f"A{len(raw) * 8}{suffix}":
        raise _unsupported(body)
    return raw


def _oct_encrypt(version: keystore.Version, body: Fields) -> Fields:
    plaintext = _bytes(body, "value")
    if str(body.get("alg")).endswith("GCM"):
        key = _oct_key(version, body, "GCM")
        iv = secrets.token_bytes(_IV_BYTES)
        aad = _bytes(body, "aad") if body.get("aad") else None
        sealed = AESGCM(key).encrypt(iv, plaintext, aad)
        extra = {"aad": body["aad"]} if aad else {}
        tag = b64(sealed[-_TAG_BYTES:])
        return {"value": b64(sealed[:-_TAG_BYTES]), "iv": b64(iv), "tag": tag, **extra}
    padded = str(body.get("alg")).endswith("PAD")
    key = _oct_key(version, body, "CBCPAD" if padded else "CBC")
    if padded:
        padder = block_padding.PKCS7(128).padder()
        plaintext = padder.update(plaintext) + padder.finalize()
    iv = _bytes(body, "iv") if body.get("iv") else secrets.token_bytes(16)
    try:
        encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
        sealed = encryptor.update(plaintext) + encryptor.finalize()
    except ValueError:
        raise LabFault(400, "BadParameter", "value or iv has a wrong length.") from None
    return {"value": b64(sealed), "iv": b64(iv)}


def _oct_decrypt(version: keystore.Version, body: Fields) -> Fields:
    sealed, iv = _bytes(body, "value"), _bytes(body, "iv")
    try:
        if str(body.get("alg")).endswith("GCM"):
            key = _oct_key(version, body, "GCM")
            aad = _bytes(body, "aad") if body.get("aad") else None
            return {"value": b64(AESGCM(key).decrypt(iv, sealed + _bytes(body, "tag"), aad))}
        padded = str(body.get("alg")).endswith("PAD")
        key = _oct_key(version, body, "CBCPAD" if padded else "CBC")
        decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        plaintext = decryptor.update(sealed) + decryptor.finalize()
        if padded:
            unpadder = block_padding.PKCS7(128).unpadder()
            plaintext = unpadder.update(plaintext) + unpadder.finalize()
    except (ValueError, InvalidTag):
        raise LabFault(400, "BadParameter", "Decryption failed.") from None
    return {"value": b64(plaintext)}


def _wrap(version: keystore.Version, body: Fields) -> Fields:
    if version["kty"] != "oct-HSM":
        return _encrypt(version, body)
    try:
        return {"value": b64(aes_key_wrap(_oct_key(version, body, "KW"), _bytes(body, "value")))}
    except ValueError:
        raise LabFault(400, "BadParameter", "The value is no key that can be wrapped.") from None


def _unwrap(version: keystore.Version, body: Fields) -> Fields:
    if version["kty"] != "oct-HSM":
        return _decrypt(version, body)
    try:
        key = aes_key_unwrap(_oct_key(version, body, "KW"), _bytes(body, "value"))
    except (ValueError, InvalidUnwrap):
        raise LabFault(400, "BadParameter", "Decryption failed.") from None
    return {"value": b64(key)}


def _signing(
    version: keystore.Version, body: Fields, digest: bytes
) -> tuple[Any, tuple[Any, ...], int]:
    """Return the key, the arguments after the digest, and the size of an EC coordinate."""
    alg = str(body.get("alg"))
    algorithm = _HASHES.get(alg[2:5])
    if algorithm is None or len(digest) != algorithm.digest_size:
        raise _unsupported(body)
    key = keystore.load_private(version["material"])
    prehashed = utils.Prehashed(algorithm)
    if isinstance(key, rsa.RSAPrivateKey) and alg[:2] in {"RS", "PS"}:
        salt = algorithm.digest_size
        pss = padding.PSS(padding.MGF1(algorithm), salt)
        scheme = pss if alg.startswith("PS") else padding.PKCS1v15()
        return key, (scheme, prehashed), 0
    if isinstance(key, ec.EllipticCurvePrivateKey) and alg.startswith("ES"):
        return key, (ec.ECDSA(prehashed),), (key.curve.key_size + 7) // 8
    raise _unsupported(body)


def _sign(version: keystore.Version, body: Fields) -> Fields:
    digest = _bytes(body, "value")
    key, arguments, size = _signing(version, body, digest)
    signature = key.sign(digest, *arguments)
    if size:
        r, s = utils.decode_dss_signature(signature)
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    return {"value": b64(signature)}


def _verify(version: keystore.Version, body: Fields) -> bool:
    digest, signature = _bytes(body, "digest"), _bytes(body, "value")
    key, arguments, size = _signing(version, body, digest)
    if size:
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        signature = utils.encode_dss_signature(r, s)
    try:
        key.public_key().verify(signature, digest, *arguments)
    except InvalidSignature:
        return False
    return True


_PERFORM: Final[dict[str, Callable[[keystore.Version, Fields], Fields]]] = {
    "encrypt": _encrypt,
    "decrypt": _decrypt,
    "wrapKey": _wrap,
    "unwrapKey": _unwrap,
    "sign": _sign,
}


def _random(call: Call) -> Response:
    state.load_active(call, "/rng/action", scope="/keys")
    count = call.request.json_object().get("count")
    if not isinstance(count, int) or not 1 <= count <= MAX_RANDOM_BYTES:
        raise LabFault(400, "BadParameter", f"count must be 1 to {MAX_RANDOM_BYTES}.")
    return state.answer(call, 200, {"value": b64(secrets.token_bytes(count))})


_PATH: Final = f"/keys/{KEY_NAME}(/{VERSION})?/(?P<operation>{'|'.join(_OPERATIONS)})"
ROUTES: Final[tuple[Route, ...]] = (
    *(Route(host, "POST", _PATH, _use, auth, hsm_fault) for host, auth in state.KEY_HOSTS),
    Route(state.HOST, "POST", "/rng", _random, "hsm", hsm_fault),
)
