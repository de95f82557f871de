"""The recovered HSM's signature over the manifest: good, forged, of another bundle, refused."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256

from drengine.cli import hsmsigning
from drengine.errors import InputError, InputFileError, NotAuthorized
from drengine.evidence.bundle import HSM_SIGNATURE, INVENTORY
from drengine.evidence.recovered import keep_signature, question_of
from drengine.evidence.sealed import verify_bundle
from drengine.model.canonical import canonical
from drengine.trust.register import read_trust

HASHED = utils.Prehashed(SHA256())


def b64(number, size):
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()


class Hsm:
    """An HSM's keys, before the disaster and after it."""

    def __init__(self):
        self.curve = ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(65537, 2048)

    def inventory(self):
        point, modulus = (key.public_key().public_numbers() for key in (self.curve, self.rsa))
        base = {"version": "ab" * 16, "enabled": True, "key_ops": ["sign", "verify"], "created": 1}
        keys = [
            {**base, "name": "doc", "kty": "EC-HSM", "crv": "P-256"}
            | {"x": b64(point.x, 32), "y": b64(point.y, 32), "n": "", "e": ""},
            {**base, "name": "app", "kty": "RSA-HSM", "crv": "", "x": "", "y": ""}
            | {"n": b64(modulus.n, 256), "e": b64(modulus.e, 3)},
            {**base, "name": "wrap", "kty": "oct-HSM", "crv": "", "key_ops": ["wrapKey"]},
        ]
        return json.dumps({"schema": "drengine/inventory/v1", "keys": keys}).encode()

    def sign(self, algorithm, digest):
        if algorithm == "ES256":
            der = self.curve.sign(digest, ec.ECDSA(HASHED))
            return b"".join(half.to_bytes(32, "big") for half in utils.decode_dss_signature(der))
        scheme = padding.PKCS1v15()
        if algorithm == "PS256":
            scheme = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)
        return self.rsa.sign(digest, scheme, HASHED)


@pytest.fixture(scope="module")
def hsm():
    return Hsm()


@pytest.fixture(scope="module")
def sealed(hsm, make_bundle, tell, tmp_path_factory):
    before = hsm.inventory()

    def tale(story):
        story.store.put_object(before)
        tell.recover(story)

    named = {"path": "/inv.json", "sha256": hashlib.sha256(before).hexdigest(), "size": len(before)}
    plan = tell.make_plan(inventory=named)
    return make_bundle(tmp_path_factory.mktemp("hsm"), plan=plan, tale=tale)


@pytest.fixture
def mine(sealed, forging, cast, tmp_path):
    """A copy, in hands that may do anything to it."""
    return forging.Forger(sealed, tmp_path, cast)


def sign(forger, hsm, key, change=None):
    question = question_of(forger.path, key)
    signature = hsm.sign(question.algorithm, bytes.fromhex(question.sha256))
    doc = json.loads(keep_signature(forger.path, question, signature))
    (forger.path / HSM_SIGNATURE).write_bytes(canonical({**doc, **(change or {})}) + b"\n")
    return question


def told(forger):
    report = verify_bundle(forger.path, read_trust(forger.cast.trust))
    return report, "\n".join(str(problem) for problem in report.problems)


@pytest.mark.parametrize(("key", "algorithm"), [("doc", "ES256"), ("app", "PS256")])
def test_a_key_from_before_signs_and_both_verifiers_say_which(mine, hsm, key, algorithm):
    assert sign(mine, hsm, key).algorithm == algorithm
    report, problems = told(mine)
    assert problems == ""
    assert report.hsm_key == f"contoso-dr/{key}/{'ab' * 16}"
    alone = mine.alone()
    assert alone.returncode == 0, alone.stdout
    assert f"made with {report.hsm_key}" in alone.stdout


def test_a_pkcs1_signature_verifies_too(mine, hsm):
    question = question_of(mine.path, "app")
    signature = hsm.sign("RS256", bytes.fromhex(question.sha256))
    said = {"algorithm": "RS256", "signature": base64.b64encode(signature).decode()}
    sign(mine, hsm, "app", said)
    assert told(mine)[1] == ""
    assert mine.alone().returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"signature": base64.b64encode(b"s" * 64).decode()}, "not made with the key"),
        ({"algorithm": "PS256"}, "not made with the key"),
        ({"key": "wrap"}, "not made with the key"),
        ({"key": "stranger"}, "does not hold"),
        ({"manifest_sha256": "0" * 64}, "manifest_sha256 is not this bundle's"),
        ({"hsm": "other-hsm"}, "hsm is not this bundle's"),
        ({"more": 1}, "does not hold"),
    ],
)
def test_a_forged_signature_is_refused_by_both(mine, hsm, change, words):
    sign(mine, hsm, "doc", change)
    report, problems = told(mine)
    assert words in problems, problems
    assert report.hsm_key == ""
    assert mine.alone().returncode == 9


def test_an_inventory_made_after_the_disaster_is_refused_by_both(mine, cast):
    other = Hsm()
    (mine.path / INVENTORY).write_bytes(other.inventory())
    mine.resum()
    sign(mine, other, "doc")
    _, problems = told(mine)
    assert "the inventory here is not the one that the plan names" in problems, problems
    assert cast.sealer.keyid == verify_bundle(mine.path, read_trust(cast.trust)).sealed_by
    alone = mine.alone()
    assert alone.returncode == 9
    assert "is not the inventory that the plan names" in alone.stdout


def test_an_hsm_whose_key_is_another_gives_no_file(mine):
    question = question_of(mine.path, "doc")
    signature = Hsm().sign("ES256", bytes.fromhex(question.sha256))
    with pytest.raises(InputError, match="not with the key that was there before"):
        keep_signature(mine.path, question, signature)


@pytest.mark.parametrize("key", ["nokey", "wrap", "doc/0000"])
def test_a_key_that_did_not_sign_before_is_refused(mine, key):
    with pytest.raises(InputError, match="inventory from before"):
        question_of(mine.path, key)


def test_a_bundle_without_an_inventory_is_refused(forger):
    with pytest.raises(InputFileError, match="inventory from before"):
        question_of(forger.path, "doc")


def test_where_policy_forbids_signing_it_says_so_and_leaves_the_bundle(mine, monkeypatch):
    async def refused(*_):
        raise NotAuthorized("signing: 403 Forbidden")

    @asynccontextmanager
    async def session(_):
        data = SimpleNamespace(sign=refused)
        where = SimpleNamespace(hsm_suffix="managedhsm.azure.net")
        yield SimpleNamespace(where=where, cloud=SimpleNamespace(hsm=lambda _: data))

    monkeypatch.setattr(hsmsigning, "signed_in", session)
    monkeypatch.setattr(hsmsigning, "check_identity", lambda *_: None)
    with pytest.raises(NotAuthorized) as caught:
        hsmsigning.sign_by_hsm(mine.path, "doc", "azure-cli")
    assert "Managed HSM Crypto User" in caught.value.hint
    assert "verifies without" in caught.value.hint
    assert not (mine.path / HSM_SIGNATURE).exists()


@pytest.mark.parametrize("inventory", [b"{}", b"[]", b'{"keys": [{"name": "doc"}]}', b"\xff"])
def test_an_inventory_that_is_none_is_named_and_nothing_is_asked(mine, inventory):
    (mine.path / INVENTORY).write_bytes(inventory)
    with pytest.raises(InputFileError, match="no sealed bundle with the inventory from before"):
        question_of(mine.path, "doc")
