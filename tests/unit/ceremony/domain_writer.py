"""A security-domain writer and restore-blob reader of the tests' own.

It shares no line with `drengine.ceremony`, so that a mistake common to reader and
writer cannot hide. Loaded by path, because test folders are no packages.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509.oid import NameOID

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
PARTS = {
    "hsm_backup": b"hello security domain" * 40,
    "base_enclave_backup": b"base" * 31,
    "partition_enclave_backup": b"\x01\xe8" * 200,
}


def b64(data):
    return base64.urlsafe_b64encode(data).decode().replace("=", "")


def unb64(text):
    return base64.urlsafe_b64decode(text + "==="[: -len(text) % 4])


@dataclass
class Person:
    """A key with its self-signed certificate, which expired long ago as real ones do."""

    key: object
    certificate: x509.Certificate
    der: bytes = field(init=False)
    x5t: str = field(init=False)

    def __post_init__(self):
        self.der = self.certificate.public_bytes(serialization.Encoding.DER)
        self.x5t = b64(hashlib.sha256(self.der).digest())

    @property
    def certificate_pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, passphrase=None, form=serialization.PrivateFormat.PKCS8):
        lock = (
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption()
        )
        return self.key.private_bytes(serialization.Encoding.PEM, form, lock)


def certify(key, name="custodian"):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2021, 1, 1, tzinfo=dt.UTC))
    )
    return Person(key, builder.sign(key, hashes.SHA256()))


@functools.cache
def person(number, bits=2048):
    """The same person for the same number, since RSA keys take time to make."""
    return certify(rsa.generate_private_key(65537, bits), f"custodian {number}")


@functools.cache
def elliptic_person():
    return certify(ec.generate_private_key(ec.SECP256R1()), "elliptic")


def seal(plaintext, cek, header, wrapped=b""):
    head = b64(json.dumps(header, separators=(",", ":")).encode())
    iv = secrets.token_bytes(16)
    pad = 16 - len(plaintext) % 16
    encryptor = Cipher(algorithms.AES256(cek[32:]), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(plaintext + bytes([pad]) * pad) + encryptor.finalize()
    covered = head.encode() + iv + sealed + (len(head) * 8).to_bytes(8, "big")
    mac = hmac.new(cek[:32], covered, "sha512").digest()[:32]
    return ".".join([head, b64(wrapped), b64(iv), b64(sealed), b64(mac)])


def unseal(text, cek):
    head, _, iv, sealed, mac = text.split(".")
    covered = head.encode() + unb64(iv) + unb64(sealed) + (len(head) * 8).to_bytes(8, "big")
    assert hmac.new(cek[:32], covered, "sha512").digest()[:32] == unb64(mac)
    decryptor = Cipher(algorithms.AES256(cek[32:]), modes.CBC(unb64(iv))).decryptor()
    padded = decryptor.update(unb64(sealed)) + decryptor.finalize()
    return padded[: -padded[-1]]


def seal_direct(plaintext, cek, tag):
    return seal(plaintext, cek, {"alg": "dir", "enc": "A256CBC-HS512", "kid": tag})


def seal_rsa(plaintext, public_key, kid="not used"):
    cek = secrets.token_bytes(64)
    header = {"alg": "RSA-OAEP-256", "enc": "A256CBC-HS512", "kid": kid}
    return seal(plaintext, cek, header, public_key.encrypt(cek, OAEP))


def content_key(master, tag):
    message = (1).to_bytes(4, "big") + tag.encode() + b"\0" + (512).to_bytes(4, "big")
    return hmac.new(master, message, "sha512").digest()


def share_words(polynomials, x):
    values = []
    for polynomial in polynomials:
        value = 0
        for coefficient in reversed(polynomial):
            value = (value * x + coefficient) % 257
        values.append(value)
    return b"".join(((x << 9) + value).to_bytes(2, "little") for value in values)


@dataclass
class Domain:
    document: dict
    people: list
    required: int
    master: bytes
    parts: dict
    polynomials: list

    @property
    def data(self):
        return json.dumps(self.document, separators=(",", ":")).encode()


def write_domain(people, required, parts=None, polynomials=None):
    parts = PARTS if parts is None else parts
    if polynomials is None:
        master = secrets.token_bytes(32)
        polynomials = [
            [byte, *(secrets.randbelow(257) for _ in range(required - 1))] for byte in master
        ]
    master = bytes(polynomial[0] for polynomial in polynomials)
    data = [
        {"compact_jwe": seal_direct(plain, content_key(master, tag), tag), "tag": tag}
        for tag, plain in parts.items()
    ]
    shares = [
        {
            "enc_key": seal_rsa(share_words(polynomials, x), one.key.public_key(), f"guid-{x}"),
            "x5t_256": one.x5t,
        }
        for x, one in enumerate(people, start=1)
    ]
    document = {
        "EncData": {"data": data, "kdf": "sp108_kdf"},
        "SharedKeys": {
            "enc_shares": shares,
            "key_algorithm": "shamir_share",
            "required": required,
        },
        "version": 2,
    }
    return Domain(document, list(people), required, master, dict(parts), polynomials)


def open_blob(blob, exchange):
    """What the new HSM does: unwrap the key, authenticate and decrypt every part."""
    document = json.loads(blob)
    assert json.dumps(document).encode() == blob
    assert document["WrappedKey"]["x5t_256"] == exchange.x5t
    enc_key = document["WrappedKey"]["enc_key"]
    cek = exchange.key.decrypt(unb64(enc_key.split(".")[1]), OAEP)
    master = unseal(enc_key, cek)
    assert len(master) == 32
    return {
        item["tag"]: unseal(item["compact_jwe"], content_key(master, item["tag"]))
        for item in document["EncData"]["data"]
    }


def flip(text, segment, byte, mask):
    """One bit pattern flipped in one decoded segment of a compact JWE."""
    segments = text.split(".")
    raw = bytearray(unb64(segments[segment]))
    raw[byte % len(raw)] ^= mask
    segments[segment] = b64(bytes(raw))
    return ".".join(segments)
