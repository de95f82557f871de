from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from drengine.ceremony.domain import MAX_DOMAIN_BYTES, parse_security_domain
from drengine.errors import DomainError

ROOT = Path(__file__).parents[3]


def refused(document):
    with pytest.raises(DomainError) as caught:
        parse_security_domain(json.dumps(document).encode())
    assert caught.value.exit_code == 15
    assert caught.value.hint
    return caught.value.message


def test_a_domain_says_its_quorum_custodians_and_digest(domain, people):
    parsed = parse_security_domain(domain.data)
    assert parsed.required == 2
    assert parsed.custodians == tuple(one.x5t for one in people[:3])
    assert parsed.tags == ("hsm_backup", "base_enclave_backup", "partition_enclave_backup")
    assert parsed.sha256 == hashlib.sha256(domain.data).hexdigest()
    assert parsed.size_bytes == len(domain.data)


def test_reading_a_domain_loads_no_cryptography():
    code = (
        "import sys; import drengine.ceremony.domain, drengine.ceremony.blob; "
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("required", [0, 1, 4, 11, -2])
def test_a_quorum_out_of_range_is_refused(domain, required):
    domain.document["SharedKeys"]["required"] = required
    assert f"'SharedKeys.required' is {required}" in refused(domain.document)


@pytest.mark.parametrize("required", [True, "2", None, 2.0])
def test_a_quorum_that_is_no_integer_is_refused(domain, required):
    domain.document["SharedKeys"]["required"] = required
    assert "integer" in refused(domain.document)


@pytest.mark.parametrize("tag", ["hsm_backup", "base_enclave_backup", "partition_enclave_backup"])
def test_a_missing_part_is_named(domain, tag):
    listed = domain.document["EncData"]["data"]
    listed[:] = [entry for entry in listed if entry["tag"] != tag]
    assert f"it lacks '{tag}'" in refused(domain.document)


def test_a_repeated_part_is_named(domain):
    listed = domain.document["EncData"]["data"]
    listed.append(listed[0])
    assert "part 'hsm_backup' is there twice" in refused(domain.document)


def test_a_part_under_another_tag_is_refused(domain):
    listed = domain.document["EncData"]["data"]
    listed[0]["tag"], listed[1]["tag"] = listed[1]["tag"], listed[0]["tag"]
    assert "names the key 'hsm_backup', not 'base_enclave_backup'" in refused(domain.document)


def test_a_cut_tag_is_refused_before_any_key_is_near(domain, writer):
    entry = domain.document["EncData"]["data"][0]
    head, _, tag = entry["compact_jwe"].rpartition(".")
    entry["compact_jwe"] = f"{head}.{writer.b64(writer.unb64(tag)[:31])}"
    assert "part 'hsm_backup': its authentication tag has 31 bytes" in refused(domain.document)


def test_a_custodian_twice_is_refused(domain, people):
    shares = domain.document["SharedKeys"]["enc_shares"]
    shares[2]["x5t_256"] = shares[0]["x5t_256"]
    assert f"custodian {people[0].x5t} is listed twice" in refused(domain.document)


@pytest.mark.parametrize("count", [0, 1, 2, 11])
def test_a_number_of_custodians_out_of_range_is_refused(domain, count):
    keys = domain.document["SharedKeys"]
    keys["enc_shares"] = (keys["enc_shares"] * 4)[:count]
    assert f"has {count} elements; expected 3 to 10" in refused(domain.document)


def test_a_damaged_share_names_its_custodian(domain, people):
    domain.document["SharedKeys"]["enc_shares"][1]["enc_key"] += "AA"
    assert f"the share of custodian {people[1].x5t}" in refused(domain.document)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("version",), 1, "'version' is 1"),
        (("EncData", "kdf"), "hkdf", "'EncData.kdf' is 'hkdf'"),
        (("SharedKeys", "key_algorithm"), "xor", "is 'xor'"),
        (("EncData",), [], "'EncData' is not an object"),
        (("EncData", "data"), {}, "'EncData.data' is not a list"),
        (("EncData", "data", 0), "x", "'EncData.data[0]' is not an object"),
        (("EncData", "data", 0, "tag"), "a b", "not a plain word"),
        (("EncData", "data", 0, "compact_jwe"), 5, "the JWE of part 'hsm_backup'"),
        (("SharedKeys", "enc_shares", 0, "x5t_256"), "AAAA", "SHA-256"),
        (("more",), 1, "unknown member 'more'"),
    ],
)
def test_another_shape_is_refused_with_its_place(domain, path, value, message):
    *way, last = path
    place = domain.document
    for step in way:
        place = place[step]
    place[last] = value
    assert message in refused(domain.document)


@pytest.mark.parametrize(
    "data", [b"", b"not json", b"null", b"[]", b"\xff" * 9, b" " * (MAX_DOMAIN_BYTES + 1)]
)
def test_what_is_no_domain_at_all_is_refused(data):
    with pytest.raises(DomainError):
        parse_security_domain(data)


def test_a_repeated_member_is_refused(domain):
    data = domain.data.replace(b'"version":2', b'"version":2,"version":2')
    with pytest.raises(DomainError, match="'version' stands twice"):
        parse_security_domain(data)


def test_a_part_of_unknown_tag_is_kept(writer, people):
    domain = writer.write_domain(people[:3], 2, parts={**writer.PARTS, "later_part": b"new"})
    assert parse_security_domain(domain.data).tags[-1] == "later_part"
