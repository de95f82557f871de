"""Names and key identifiers: the host changes, name and version stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drengine.actions.names import (
    host_of,
    hsm_uri,
    instance_key_name,
    is_host_of_hsm,
    key_parts,
    kid_on,
)
from drengine.errors import InputError
from drengine.model.ids import HSM_NAME

KID = "https://Old.managedhsm.azure.net/keys/sqlmi-tde/1a4d3b9b393c4678831ccc60def75379"


def test_a_full_restore_keeps_name_and_version():
    moved = kid_on(KID, "new.managedhsm.azure.net")
    assert moved == KID.replace("Old.", "new.")
    assert key_parts(moved) == key_parts(KID)


def test_the_instances_key_name_is_label_key_version():
    assert instance_key_name(KID) == "old_sqlmi-tde_1a4d3b9b393c4678831ccc60def75379"


@pytest.mark.parametrize("tail", ["", "/"])
def test_a_key_without_a_version_stays_without_one(tail):
    kid = f"https://Old.managedhsm.azure.net/keys/tde{tail}"
    assert key_parts(kid) == ("tde", "")
    assert kid_on(kid, "new.managedhsm.azure.net") == "https://new.managedhsm.azure.net/keys/tde"
    assert instance_key_name(kid) == "old_tde"


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("old.managedhsm.azure.net", True),
        ("westeurope.old.managedhsm.azure.net", True),
        ("old-dr.managedhsm.azure.net", False),
        ("notold.managedhsm.azure.net", False),
        ("old.westeurope.managedhsm.azure.net", False),
        ("old.vault.azure.net", False),
        ("", False),
    ],
)
def test_an_hsm_has_its_global_name_and_one_in_each_region(host, own):
    assert is_host_of_hsm(host, "Old", "managedhsm.azure.net") is own


@pytest.mark.parametrize(
    "kid", ["https://x/keys", "https://x/keys//v", "https://x/secrets/k/v", "", "nonsense"]
)
def test_what_is_no_key_identifier_is_refused(kid):
    with pytest.raises(InputError):
        key_parts(kid)


@given(st.from_regex(r"[A-Za-z](-?[A-Za-z0-9]){2,11}", fullmatch=True))
def test_every_legal_name_gives_a_host_of_its_own(name):
    assert host_of(hsm_uri(name, "managedhsm.azure.net")) == f"{name.lower()}.managedhsm.azure.net"
    assert HSM_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["ab", "a" * 25, "a--b", "1ab", "ab-", "a_b", ""])
def test_an_illegal_name_is_none(name):
    assert not HSM_NAME.fullmatch(name)
