"""Two security domains that real HSMs gave out, opened with the keys published with them."""

from __future__ import annotations

import base64
import json
import os
from itertools import combinations, permutations
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from drengine.ceremony.blob import inspect_restore_blob
from drengine.ceremony.certificates import load_certificate, thumbprint_of
from drengine.ceremony.combine import KeySource, combine
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.rewrap import load_exchange_certificate, make_restore_blob
from drengine.ceremony.unseal import open_domain, open_share

VECTORS = Path(__file__).parents[4] / "shared" / "azure" / "vectors"
SIZES = {"2021-02": [8148, 869, 2925], "2023-07": [8516, 968, 3105]}
ERAS = sorted(SIZES)

pytestmark = pytest.mark.skipif(
    not VECTORS.is_dir(),
    reason="the recorded security domains (../shared/azure/vectors) are absent",
)


def custodians():
    for number in (1, 2, 3):
        key = base64.b64decode((VECTORS / f"custodian_{number}.pkcs8.b64").read_text())
        certificate = (VECTORS / f"custodian_{number}.cer").read_bytes()
        yield load_certificate(certificate), load_der_private_key(key, None)


def read(era, name):
    return (VECTORS / era / name).read_bytes()


def exchange_der(era):
    jwk = json.loads(json.loads(read(era, "transfer_key_response.json"))["transfer_key"])
    return base64.b64decode(jwk["x5c"][0])


@pytest.mark.parametrize("era", ERAS)
def test_every_quorum_of_the_real_custodians_opens_the_real_domain(era):
    domain = parse_security_domain(read(era, "security_domain.json"))
    shares = [open_share(domain, *custodian) for custodian in custodians()]
    assert [share.x for share in shares] == [1, 2, 3]
    opened = {
        open_domain(domain, quorum)
        for size in (2, 3)
        for members in combinations(shares, size)
        for quorum in permutations(members)
    }
    assert len(opened) == 1
    parts = opened.pop()
    assert [len(part.plaintext) for part in parts] == SIZES[era]
    assert b"hsm_context" in parts[1].plaintext[:64]


@pytest.mark.parametrize("era", ERAS)
def test_our_blob_has_the_published_ones_form_down_to_every_length(era):
    domain = parse_security_domain(read(era, "security_domain.json"))
    shares = [open_share(domain, *custodian) for custodian in custodians()]
    exchange = load_exchange_certificate(exchange_der(era))
    ours = make_restore_blob(open_domain(domain, shares), exchange, os.urandom)
    published = read(era, "restore_blob.json")
    assert len(ours) == len(published)
    assert shape(ours) == shape(published)
    ours_seen, published_seen = inspect_restore_blob(ours), inspect_restore_blob(published)
    assert ours_seen.exchange_x5t_256 == published_seen.exchange_x5t_256 == thumbprint_of(exchange)
    assert ours_seen.tags == published_seen.tags


def shape(blob):
    """Everything but the random letters: spacing, member order, headers, segment lengths."""
    document = json.loads(blob)

    def of(jwe):
        header, *rest = jwe.split(".")
        return [header, *map(len, rest)]

    for item in document["EncData"]["data"]:
        item["compact_jwe"] = of(item["compact_jwe"])
    document["WrappedKey"]["enc_key"] = of(document["WrappedKey"]["enc_key"])
    return json.dumps(document)


@pytest.mark.parametrize("era", ERAS)
def test_the_whole_way_over_files_and_the_child_works_with_real_ones(era, tmp_path):
    (tmp_path / "exchange.der").write_bytes(exchange_der(era))
    keys = []
    for number, (_certificate, key) in enumerate(custodians(), start=1):
        path = tmp_path / f"{number}.key"
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        keys.append(KeySource(path, VECTORS / f"custodian_{number}.cer"))
    report = combine(
        VECTORS / era / "security_domain.json",
        tmp_path / "exchange.der",
        keys[1:],
        tmp_path / "blob.json",
    )
    assert report.blob_size_bytes == len(read(era, "restore_blob.json"))
    assert report.required == 2
