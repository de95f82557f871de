"""Security domains: make one, wrap it for custodians, take one back from an upload.

This is the lab's own writer, on purpose apart from the reader in `drengine.ceremony`, so
that a mistake shared by both cannot hide. The format is that of recorded downloads
(version 2): three data under keys derived from a 32-byte master, and the master shared
byte by byte over GF(257) to the custodians' certificates.

The three plaintexts ARE the domain: their fingerprint says whether two HSMs have the
same one. Wrapping it anew changes neither.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from drengine.lab.hsm.jose import (
    JoseError,
    b64,
    derive,
    open_direct,
    open_with,
    seal_direct,
    seal_to,
)

TAGS: Final = ("hsm_backup", "base_enclave_backup", "partition_enclave_backup")
PRIME: Final = 257
MASTER_BYTES: Final = 32
INDEX_SHIFT: Final = 9
"""A share word is `x << 9 | v`, for `v` may be 256, which needs nine bits."""
_HSM_BLOB_BYTES: Final = 8512
_CONTEXT_BYTES: Final = 840
_PARTITION_BYTES: Final = 2816
_BSON_BINARY: Final = 5


class UploadError(ValueError):
    """A restore blob is not acceptable.

    Parameters:
        message: what is wrong with it.
        malformed: whether it is not even a restore blob for this HSM.
    """

    def __init__(self, message: str, *, malformed: bool = False) -> None:
        super().__init__(message)
        self.malformed = malformed


def new_domain() -> dict[str, bytes]:
    """Return the three plaintexts of a fresh domain, in the sizes of recorded ones."""
    protection = {
        "backup_protection_key": secrets.token_bytes(32),
        "partition": secrets.token_bytes(_PARTITION_BYTES),
    }
    return {
        "hsm_backup": b"\x01\xe8\x01\x00" + secrets.token_bytes(_HSM_BLOB_BYTES),
        "base_enclave_backup": _bson({"hsm_context": secrets.token_bytes(_CONTEXT_BYTES)}),
        "partition_enclave_backup": _bson(protection),
    }


def fingerprint(domain: Mapping[str, bytes]) -> str:
    """Return the identity of a domain; equal if and only if the plaintexts are."""
    inner = b"".join(hashlib.sha256(domain[tag]).digest() for tag in TAGS)
    return hashlib.sha256(inner).hexdigest()


def protection_key(domain: Mapping[str, bytes], purpose: str) -> bytes:
    """Derive 64 bytes for `purpose` from the domain's backup protection key."""
    fields = _read_bson(domain["partition_enclave_backup"])
    return derive(fields["backup_protection_key"], purpose)


def wrap_domain(
    domain: Mapping[str, bytes], certificates: Sequence[x509.Certificate], required: int
) -> str:
    """Return the security-domain file for a set of custodians and a quorum."""
    master = secrets.token_bytes(MASTER_BYTES)
    encrypted = [
        {"compact_jwe": seal_direct(derive(master, tag), domain[tag], tag), "tag": tag}
        for tag in TAGS
    ]
    shares = [
        {"enc_key": seal_to(_rsa_key(one), share, str(uuid.uuid4())), "x5t_256": x5t_256(one)}
        for one, share in zip(
            certificates, split_secret(master, required, len(certificates)), strict=True
        )
    ]
    file = {
        "EncData": {"data": encrypted, "kdf": "sp108_kdf"},
        "SharedKeys": {
            "enc_shares": shares,
            "key_algorithm": "shamir_share",
            "required": required,
        },
        "version": 2,
    }
    return json.dumps(file, separators=(",", ":"))


def split_secret(secret: bytes, required: int, total: int) -> list[bytes]:
    """Share a secret byte by byte; any `required` of the `total` shares give it back."""
    words: list[list[int]] = [[] for _ in range(total)]
    for byte in secret:
        coefficients = [byte, *(secrets.randbelow(PRIME) for _ in range(required - 1))]
        for index in range(total):
            words[index].append((index + 1) << INDEX_SHIFT | _evaluate(coefficients, index + 1))
    return [struct.pack(f"<{len(secret)}H", *row) for row in words]


def _evaluate(coefficients: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


def open_upload(
    text: str, key: rsa.RSAPrivateKey, certificate: x509.Certificate
) -> dict[str, bytes]:
    """Open a restore blob made for the exchange key of this HSM.

    Raises:
        UploadError: malformed, for another exchange key, or its data do not verify.
    """
    blob = _read_blob(text)
    wrapped = blob["WrappedKey"]
    if not hmac.compare_digest(str(wrapped.get("x5t_256")), x5t_256(certificate)):
        raise UploadError(
            "The restore blob was wrapped for another exchange key than this HSM's current one.",
            malformed=True,
        )
    try:
        master = open_with(key, str(wrapped.get("enc_key")))
        if len(master) != MASTER_BYTES:
            raise UploadError("The wrapped key has a wrong length.")
        opened = {
            item["tag"]: open_direct(item["compact_jwe"], derive(master, item["tag"]))
            for item in blob["EncData"]["data"]
        }
        _read_bson(opened["partition_enclave_backup"])["backup_protection_key"]
    except JoseError as error:
        raise UploadError(f"The restore blob does not open: {error}.") from error
    except (KeyError, ValueError) as error:
        raise UploadError("The restore blob holds something else than a domain.") from error
    return opened


def _read_blob(text: str) -> dict[str, Any]:
    try:
        blob = json.loads(text)
        wrapped, encrypted = blob["WrappedKey"], blob["EncData"]
        tags = [item["tag"] for item in encrypted["data"]]
        shaped = isinstance(wrapped, dict) and all(
            isinstance(item["compact_jwe"], str) for item in encrypted["data"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UploadError("The value is not a restore blob.", malformed=True) from error
    if not shaped or sorted(tags) != sorted(TAGS) or encrypted.get("kdf") != "sp108_kdf":
        raise UploadError("The restore blob lacks one of its three data.", malformed=True)
    return dict(blob)


def x5t_256(certificate: x509.Certificate) -> str:
    """Return the base64url SHA-256 of the certificate."""
    return b64(certificate.fingerprint(hashes.SHA256()))


def _rsa_key(certificate: x509.Certificate) -> rsa.RSAPublicKey:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise TypeError("only RSA certificates can wrap shares")
    return key


def certificate_der(certificate: x509.Certificate) -> bytes:
    """Return the certificate as DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def _bson(fields: Mapping[str, bytes]) -> bytes:
    body = b"".join(
        bytes([_BSON_BINARY])
        + name.encode()
        + b"\0"
        + struct.pack("<i", len(value))
        + b"\0"
        + value
        for name, value in fields.items()
    )
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def _read_bson(raw: bytes) -> dict[str, bytes]:
    """Read a BSON document of binary fields.

    Raises:
        ValueError: it is anything else.
    """
    if len(raw) < 5 or struct.unpack_from("<i", raw)[0] != len(raw):  # noqa: PLR2004 - BSON
        raise ValueError("not a BSON document")
    fields: dict[str, bytes] = {}
    position = 4
    while raw[position] == _BSON_BINARY:
        end = raw.index(b"\0", position)
        (size,) = struct.unpack_from("<i", raw, end + 1)
        start = end + 6
        fields[raw[position + 1 : end].decode()] = raw[start : start + size]
        position = start + size
    if raw[position:] != b"\0":
        raise ValueError("not a BSON document of binary fields")
    return fields
