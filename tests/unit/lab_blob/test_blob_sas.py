"""Tokens made by the official client are read, whatever their version, and bad ones refused."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

import pytest
from azure.storage.blob import (
    AccountSasPermissions,
    ContainerSasPermissions,
    ResourceTypes,
    generate_account_sas,
    generate_container_sas,
)

from drengine.lab.blob import access, domain, sas
from drengine.lab.wire import LabFault

ACCOUNT = "contoso-backups"
CONTAINER = "hsm-backups"
NOW = dt.datetime.fromtimestamp(1_800_000_000, dt.UTC)


def test_the_clients_container_token_and_the_labs_are_read_alike(store: Any) -> None:
    with store.transaction() as tx:
        key = access.account_document(tx, ACCOUNT)["keys"][1]["value"]
        token = generate_container_sas(
            ACCOUNT,
            CONTAINER,
            account_key=key,
            permission=ContainerSasPermissions.from_string("racwdl"),
            start=NOW - dt.timedelta(hours=1),
            expiry=NOW + dt.timedelta(hours=1),
            protocol="https",
            cache_control="no-store",
        )
        assert access.token_rights(tx, ACCOUNT, CONTAINER, None, token) == set("racwdl")
        own = domain.make_sas(tx, ACCOUNT, CONTAINER)
        assert access.token_rights(tx, ACCOUNT, CONTAINER, "any/blob", own) == set("rcwdl")


def test_an_account_token_works_for_the_services_that_it_names(store: Any) -> None:
    with store.transaction() as tx:
        key = access.account_document(tx, ACCOUNT)["keys"][0]["value"]
        token = generate_account_sas(
            ACCOUNT,
            account_key=key,
            resource_types=ResourceTypes(service=True, container=True, object=True),
            permission=AccountSasPermissions(
                read=True, write=True, create=True, delete=True, list=True
            ),
            expiry=NOW + dt.timedelta(hours=1),
        )
        assert access.token_rights(tx, ACCOUNT, CONTAINER, None, token) == set("rwcdl")
        with pytest.raises(LabFault):
            access.token_rights(tx, ACCOUNT, CONTAINER, None, token.replace("ss=b", "ss=q"))


@pytest.mark.parametrize(
    ("version", "lines"),
    [("2015-04-05", 13), ("2018-11-09", 15), ("2020-12-06", 16), ("2026-10-06", 16)],
)
def test_the_signed_text_grows_with_the_version(version: str, lines: int) -> None:
    token = sas.SasToken({"sv": version})
    assert len(sas.service_text(token, "a", "c").split("\n")) == lines


@pytest.mark.parametrize(
    ("version", "lines"),
    [("2018-11-09", {20}), ("2020-02-10", {23}), ("2020-12-06", {24}), ("2025-07-05", {26, 28})],
)
def test_the_text_of_a_delegated_token_grows_too(version: str, lines: set[int]) -> None:
    token = sas.SasToken({"sv": version})
    assert {len(text.split("\n")) for text in sas.delegation_texts(token, "a", "c")} == lines


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15T08:00:00Z", 1_800_000_000),
        ("2027-01-15T08:00Z", 1_800_000_000),
        ("2027-01-15T08:00:00.0000000Z"[:26] + "Z", 1_800_000_000),
        ("2027-01-15", 1_799_971_200),
    ],
)
def test_times_have_several_forms(text: str, seconds: int) -> None:
    assert sas.parse_time(text) == seconds * 1000


def test_a_delegated_token_is_no_wider_than_its_makers_role(store: Any) -> None:
    with store.transaction() as tx:
        secret = access.account_document(tx, ACCOUNT)["delegation_secret"]
        fields = {
            "sv": "2024-11-04",
            "sr": "c",
            "sp": "rwl",
            "se": sas.format_time(tx.now_ms + 1000),
            "skoid": "p-1",
            "sktid": "t",
            "skt": sas.format_time(tx.now_ms - 1000),
            "ske": sas.format_time(tx.now_ms + 1000),
            "sks": "b",
            "skv": "2024-11-04",
        }
        key = sas.delegation_key(secret, fields)
        text = sas.delegation_texts(sas.SasToken(fields), ACCOUNT, CONTAINER)[0]
        token = urlencode(fields | {"sig": sas.sign(key, text)})
        assert access.token_rights(tx, ACCOUNT, CONTAINER, None, token) == set()
        domain.grant_role(tx, ACCOUNT, "p-1", "Storage Blob Data Reader")
        assert access.token_rights(tx, ACCOUNT, CONTAINER, None, token) == {"r", "l"}
        with pytest.raises(LabFault):
            access.token_rights(tx, ACCOUNT, CONTAINER, None, token.replace("sp=rwl", "sp=rwd"))
