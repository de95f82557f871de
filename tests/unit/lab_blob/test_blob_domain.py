"""What the managed HSM asks of storage."""

from __future__ import annotations

from typing import Any

import pytest

from drengine.lab.blob import domain
from drengine.lab.blob.sas import parse_token
from drengine.lab.wire import LabFault

ACCOUNT = "contoso-backups"
CONTAINER = "hsm-backups"
DAY_MS = 86_400_000


def test_a_blob_that_was_written_can_be_read_and_listed(store: Any) -> None:
    with store.transaction() as tx:
        domain.write_blob(tx, ACCOUNT, CONTAINER, "f/B", b"one")
        domain.write_blob(tx, ACCOUNT, CONTAINER, "f/a", b"two")
        domain.write_blob(tx, ACCOUNT, CONTAINER, "g", b"three")
        assert domain.read_blob(tx, ACCOUNT, CONTAINER, "f/B") == b"one"
        assert domain.read_blob(tx, ACCOUNT, CONTAINER, "f/b") is None
        assert domain.list_blobs(tx, ACCOUNT, CONTAINER, "f/") == ["f/B", "f/a"]
        domain.write_blob(tx, ACCOUNT, CONTAINER, "f/B", b"new")
        assert domain.read_blob(tx, ACCOUNT, CONTAINER, "f/B") == b"new"


def test_replacing_blobs_leaves_no_bytes_behind(store: Any) -> None:
    with store.transaction() as tx:
        for number in range(5):
            domain.write_blob(tx, ACCOUNT, CONTAINER, "same", bytes([number]) * 100)
        assert tx._sql.execute("SELECT COUNT(*) FROM blobs").fetchone() == (1,)


def test_a_missing_container_is_named(store: Any) -> None:
    with store.transaction() as tx:
        with pytest.raises(LabFault) as caught:
            domain.write_blob(tx, ACCOUNT, "nowhere", "b", b"")
        assert (caught.value.status, caught.value.code) == (404, "ContainerNotFound")
        sas = domain.make_sas(tx, ACCOUNT, "nowhere")
        with pytest.raises(LabFault) as caught:
            domain.authorize_hsm_storage(tx, ACCOUNT, "nowhere", sas, None, "rl")
        assert caught.value.code == "ContainerNotFound"
        with pytest.raises(LabFault) as caught:
            domain.authorize_hsm_storage(tx, "nobody", CONTAINER, None, "p", "rl")
        assert caught.value.status == 404


def test_a_token_is_good_for_its_letters_and_its_time(store: Any, clock: Any) -> None:
    with store.transaction() as tx:
        sas = domain.make_sas(tx, ACCOUNT, CONTAINER, permissions="rl")
        domain.authorize_hsm_storage(tx, ACCOUNT, CONTAINER, sas, None, "rl")
        domain.authorize_hsm_storage(tx, ACCOUNT, CONTAINER, "?" + sas, None, "rl")
        with pytest.raises(LabFault) as caught:
            domain.authorize_hsm_storage(tx, ACCOUNT, CONTAINER, sas, None, "crdw")
        assert caught.value.code == "AuthorizationPermissionMismatch"
    clock.now += 7 * DAY_MS + 1000
    with store.transaction() as tx:
        with pytest.raises(LabFault) as caught:
            domain.authorize_hsm_storage(tx, ACCOUNT, CONTAINER, sas, None, "rl")
        assert caught.value.code == "AuthenticationFailed"
        assert parse_token(sas).get("sig") not in caught.value.message


def test_a_token_of_another_container_is_refused(store: Any) -> None:
    with store.transaction() as tx:
        domain.create_container(tx, ACCOUNT, "other")
        sas = domain.make_sas(tx, ACCOUNT, "other")
        with pytest.raises(LabFault) as caught:
            domain.authorize_hsm_storage(tx, ACCOUNT, CONTAINER, sas, None, "rl")
        assert caught.value.code == "AuthenticationFailed"


@pytest.mark.parametrize("token", ["", "sv=1&sig=x", "sig=x&se=tomorrow", "nonsense", "sr=c&sig="])
def test_nonsense_instead_of_a_token_is_refused(store: Any, token: str) -> None:
    with store.transaction() as tx, pytest.raises(LabFault) as caught:
        domain.authorize_hsm_storage(tx, ACCOUNT, CONTAINER, token, None, "r")
    assert (caught.value.status, caught.value.code) == (403, "AuthenticationFailed")


def test_an_identity_needs_the_contributor_role(store: Any) -> None:
    with store.transaction() as tx:
        for grants, works in (
            ((), False),
            (("Storage Blob Data Reader",), False),
            (("Storage Blob Data Contributor",), True),
        ):
            for role in grants:
                domain.grant_role(tx, ACCOUNT, "P-1", role)
            if works:
                domain.authorize_hsm_storage(tx, ACCOUNT, CONTAINER, None, "p-1", "crdwl")
            else:
                with pytest.raises(LabFault) as caught:
                    domain.authorize_hsm_storage(tx, ACCOUNT, CONTAINER, None, "p-1", "crdwl")
                assert caught.value.code == "AuthorizationPermissionMismatch"
        assert domain.revoke_roles(tx, ACCOUNT, "p-1")
        with pytest.raises(LabFault):
            domain.authorize_hsm_storage(tx, ACCOUNT, CONTAINER, None, "p-1", "r")


def test_an_hsm_without_token_and_identity_is_refused(store: Any) -> None:
    with store.transaction() as tx, pytest.raises(LabFault) as caught:
        domain.authorize_hsm_storage(tx, ACCOUNT, CONTAINER, None, None, "r")
    assert caught.value.status == 403
