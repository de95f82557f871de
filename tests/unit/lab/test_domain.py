from __future__ import annotations

import datetime as dt
import hmac
import itertools
import json
import struct

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from drengine.lab.hsm import domain, jose


@pytest.fixture(scope="module")
def custodians() -> list[tuple[rsa.RSAPrivateKey, x509.Certificate]]:
    return [custodian(f"c{number}") for number in range(3)]


def custodian(name: str) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .public_key(key.public_key())
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def combine(shares: list[bytes]) -> bytes:
    """Lagrange at zero, written apart from the lab's code."""
    points = [[(word >> 9, word & 511) for word in struct.unpack("<32H", one)] for one in shares]
    secret = []
    for column in zip(*points, strict=True):
        total = 0
        for x, value in column:
            others = [other for other, _ in column if other != x]
            numerator, denominator = 1, 1
            for other in others:
                numerator = numerator * -other % 257
                denominator = denominator * (x - other) % 257
            total += value * numerator * pow(denominator, -1, 257)
        secret.append(total % 257)
    return bytes(secret)


@pytest.mark.parametrize(("required", "total"), [(2, 3), (3, 5), (10, 10)])
def test_any_quorum_gives_the_secret_back(required: int, total: int) -> None:
    secret = bytes(range(224, 256))
    shares = domain.split_secret(secret, required, total)
    assert {len(one) for one in shares} == {64}
    for chosen in itertools.islice(itertools.combinations(shares, required), 20):
        assert combine(list(chosen)) == secret


def test_share_words_can_hold_the_value_256() -> None:
    values = set()
    for _ in range(60):
        for share in domain.split_secret(b"\0" * 32, 2, 3):
            values |= {word & 511 for word in struct.unpack("<32H", share)}
    assert 256 in values
    assert max(values) == 256


def test_the_derivation_matches_its_definition() -> None:
    master = b"A" * 32
    block = b"\0\0\0\1" + b"hsm_backup" + b"\0" + b"\0\0\2\0"
    assert jose.derive(master, "hsm_backup") == hmac.new(master, block, "sha512").digest()


def test_a_jwe_opens_only_with_its_key_and_untouched() -> None:
    cek = b"k" * 64
    compact = jose.seal_direct(cek, b"plain", "tag")
    assert jose.open_direct(compact, cek) == b"plain"
    head, key, iv, body, tag = compact.split(".")
    other_tag = jose.b64(bytes(byte ^ 1 for byte in jose.unb64(tag)))
    for wrong in (
        f"{head}.{key}.{iv}.{body}.{other_tag}",
        ".".join([head, key, iv, body, tag[:-4]]),
        f"{head}.AAAA.{iv}.{body}.{tag}",
        f"{head}.{key}.{iv}..{tag}",
        ".".join([jose.b64(b"{}"), key, iv, body, tag]),
        ".".join([jose.b64(b"[]"), key, iv, body, tag]),
        "x",
        "!.!.!.!.!",
    ):
        with pytest.raises(jose.JoseError):
            jose.open_direct(wrong, cek)
    with pytest.raises(jose.JoseError, match="authentication tag"):
        jose.open_direct(compact, b"j" * 64)


def test_wrapping_anew_changes_the_file_and_not_the_domain(
    custodians: list[tuple[rsa.RSAPrivateKey, x509.Certificate]],
) -> None:
    plain = domain.new_domain()
    certificates = [certificate for _, certificate in custodians]
    files = [json.loads(domain.wrap_domain(plain, certificates, 2)) for _ in range(2)]
    assert files[0]["EncData"] != files[1]["EncData"]
    for file in files:
        shares = [
            jose.open_with(key, one["enc_key"])
            for (key, _), one in zip(custodians, file["SharedKeys"]["enc_shares"], strict=True)
        ]
        master = combine(shares[1:])
        opened = {
            one["tag"]: jose.open_direct(one["compact_jwe"], jose.derive(master, one["tag"]))
            for one in file["EncData"]["data"]
        }
        assert opened == plain
        assert domain.fingerprint(opened) == domain.fingerprint(plain)


def test_two_domains_differ_in_fingerprint_and_protection_key() -> None:
    one, two = domain.new_domain(), domain.new_domain()
    assert domain.fingerprint(one) != domain.fingerprint(two)
    assert domain.protection_key(one, "x") != domain.protection_key(two, "x")
    assert domain.protection_key(one, "x") != domain.protection_key(one, "y")
    assert domain.protection_key(one, "x") == domain.protection_key(one, "x")


def test_an_upload_is_taken_only_complete_and_for_this_exchange_key(
    custodians: list[tuple[rsa.RSAPrivateKey, x509.Certificate]],
) -> None:
    (key, certificate), (_, other) = custodians[:2]
    plain, master = domain.new_domain(), b"m" * 32
    data = [
        {"compact_jwe": jose.seal_direct(jose.derive(master, tag), plain[tag], tag), "tag": tag}
        for tag in domain.TAGS
    ]

    def blob(**change: object) -> str:
        public = certificate.public_key()
        assert isinstance(public, rsa.RSAPublicKey)
        wrapped = {
            "enc_key": jose.seal_to(public, master, "not used"),
            "x5t_256": domain.x5t_256(certificate),
        }
        whole = {"EncData": {"data": data, "kdf": "sp108_kdf"}, "WrappedKey": wrapped}
        return json.dumps({**whole, **change})

    assert domain.open_upload(blob(), key, certificate) == plain
    with pytest.raises(domain.UploadError, match="another exchange key") as refusal:
        domain.open_upload(blob(), key, other)
    assert refusal.value.malformed
    for wrong in (
        blob(EncData={"data": data[:2], "kdf": "sp108_kdf"}),
        blob(EncData={"data": data, "kdf": "other"}),
        blob(EncData={"data": [*data, data[0]], "kdf": "sp108_kdf"}),
        "[]",
        "no json",
    ):
        with pytest.raises(domain.UploadError) as refusal:
            domain.open_upload(wrong, key, certificate)
        assert refusal.value.malformed
    swapped = [{**data[0], "compact_jwe": data[1]["compact_jwe"]}, *data[1:]]
    with pytest.raises(domain.UploadError, match="does not open") as refusal:
        domain.open_upload(blob(EncData={"data": swapped, "kdf": "sp108_kdf"}), key, certificate)
    assert not refusal.value.malformed
