"""The lab's blob storage driven by azure-storage-blob, sync and aio, over HTTPS."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.core.rest import HttpRequest
from azure.identity.aio import ClientSecretCredential
from azure.storage.blob import (
    AccountSasPermissions,
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    ImmutabilityPolicy,
    ResourceTypes,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)
from azure.storage.blob.aio import BlobServiceClient as AsyncBlobServiceClient

from drengine.lab import commands
from drengine.lab.clock import LabClock


def quick(lab: Any) -> dict[str, Any]:
    return {**lab.transport, "retry_total": 0}


def account_key(lab: Any) -> str:
    client = lab.sql()
    path = (
        f"/subscriptions/{lab.status['subscription']}/resourceGroups/contoso-dr"
        f"/providers/Microsoft.Storage/storageAccounts/{lab.status['storage']['account']}/listKeys"
    )
    request = HttpRequest("POST", f"https://management.azure.com{path}?api-version=2023-01-01")
    return str(client._client.send_request(request).json()["keys"][0]["value"])


@pytest.fixture
def service(lab: Any) -> Iterator[BlobServiceClient]:
    with BlobServiceClient(lab.blob_url(), credential=account_key(lab), **quick(lab)) as client:
        yield client


@pytest.fixture
def container(service: BlobServiceClient) -> ContainerClient:
    return service.create_container(f"c{uuid.uuid4().hex[:12]}")


def soon(lab: Any, **more: Any) -> dt.datetime:
    now = LabClock(lab.home / "clock.json").now_ms() / 1000
    return dt.datetime.fromtimestamp(now, dt.UTC) + dt.timedelta(**(more or {"hours": 5}))


def test_a_blob_comes_back_as_it_was_put(container: ContainerClient) -> None:
    data = os.urandom(300_000)
    container.upload_blob("folder/a b+ü.bin", data, metadata={"one": "1"})
    blob = container.get_blob_client("folder/a b+ü.bin")
    assert blob.download_blob().readall() == data
    found = blob.get_blob_properties()
    assert (found.size, found.metadata) == (len(data), {"one": "1"})
    assert blob.download_blob(offset=10, length=7).readall() == data[10:17]
    blob.delete_blob()
    with pytest.raises(ResourceNotFoundError):
        blob.get_blob_properties()


def test_a_large_blob_goes_up_in_blocks(service: BlobServiceClient, lab: Any) -> None:
    key = account_key(lab)
    with BlobServiceClient(
        lab.blob_url(),
        credential=key,
        max_single_put_size=100_000,
        max_block_size=100_000,
        **quick(lab),
    ) as client:
        name = f"c{uuid.uuid4().hex[:12]}"
        container = client.create_container(name)
        data = os.urandom(950_000)
        container.upload_blob("big", data, max_concurrency=2)
    blob = service.get_container_client(name).get_blob_client("big")
    assert blob.download_blob().readall() == data
    committed, staged = blob.get_block_list("all")
    assert (len(committed), staged) == (10, [])
    blob.upload_blob(b"small", overwrite=True)
    assert blob.download_blob().readall() == b"small"


def test_an_empty_blob_can_be_read(container: ContainerClient) -> None:
    container.upload_blob("empty", b"")
    assert container.download_blob("empty").readall() == b""


def test_listing_has_prefixes_folders_and_pages(container: ContainerClient) -> None:
    for name in ("a/1", "a/2", "b/1", "c"):
        container.upload_blob(name, b"x")
    assert list(container.list_blob_names()) == ["a/1", "a/2", "b/1", "c"]
    assert list(container.list_blob_names(name_starts_with="a/")) == ["a/1", "a/2"]
    assert [one.name for one in container.walk_blobs(delimiter="/")] == ["a/", "b/", "c"]
    pages = [list(page) for page in container.list_blobs(results_per_page=3).by_page()]
    assert [[one.name for one in page] for page in pages] == [["a/1", "a/2", "b/1"], ["c"]]


def test_containers_are_listed_and_made_once(
    service: BlobServiceClient, container: ContainerClient
) -> None:
    assert container.container_name in [one.name for one in service.list_containers()]
    with pytest.raises(ResourceExistsError):
        container.create_container()
    container.delete_container()
    with pytest.raises(ResourceNotFoundError) as caught:
        list(container.list_blobs())
    assert caught.value.error_code == "ContainerNotFound"


def test_an_append_blob_is_made_once_and_grows_at_the_expected_place(
    container: ContainerClient,
) -> None:
    blob = container.get_blob_client("journal")
    blob.create_append_blob(match_condition=MatchConditions.IfMissing)
    with pytest.raises(ResourceExistsError):
        blob.create_append_blob(match_condition=MatchConditions.IfMissing)
    first = blob.append_block(b"one", appendpos_condition=0)
    assert (first["blob_append_offset"], first["blob_committed_block_count"]) == ("0", 1)
    with pytest.raises(HttpResponseError) as caught:
        blob.append_block(b"twice", appendpos_condition=0)
    assert caught.value.error_code == "AppendPositionConditionNotMet"
    blob.append_block(b"two", etag=first["etag"], match_condition=MatchConditions.IfNotModified)
    with pytest.raises(ResourceModifiedError):
        blob.append_block(b"x", etag=first["etag"], match_condition=MatchConditions.IfNotModified)
    assert blob.download_blob().readall() == b"onetwo"
    blob.seal_append_blob()
    with pytest.raises(HttpResponseError) as caught:
        blob.append_block(b"late")
    assert caught.value.error_code == "BlobIsSealed"
    assert blob.download_blob().readall() == b"onetwo"


def test_many_appends_stay_one_blob(container: ContainerClient) -> None:
    blob = container.get_blob_client("many")
    blob.create_append_blob()
    pieces = [os.urandom(40_000) for _ in range(15)]
    for piece in pieces:
        blob.append_block(piece)
    assert blob.download_blob().readall() == b"".join(pieces)
    assert blob.get_blob_properties().append_blob_committed_block_count == 15


def test_a_lease_keeps_others_from_writing(container: ContainerClient) -> None:
    container.upload_blob("leased", b"1")
    blob = container.get_blob_client("leased")
    lease = blob.acquire_lease(lease_duration=-1)
    with pytest.raises(HttpResponseError) as caught:
        blob.upload_blob(b"2", overwrite=True)
    assert caught.value.error_code == "LeaseIdMissing"
    with pytest.raises(HttpResponseError) as caught:
        blob.acquire_lease(lease_duration=-1)
    assert caught.value.error_code == "LeaseAlreadyPresent"
    blob.upload_blob(b"2", overwrite=True, lease=lease)
    assert blob.get_blob_properties().lease.state == "leased"
    lease.renew()
    lease.change(str(uuid.uuid4()))
    lease.release()
    blob.upload_blob(b"3", overwrite=True)
    again = blob.acquire_lease(lease_duration=-1)
    assert again.break_lease(lease_break_period=0) == 0
    assert blob.get_blob_properties().lease.state == "broken"
    blob.upload_blob(b"4", overwrite=True)


def test_a_fixed_lease_expires_by_the_clock_of_the_lab(
    container: ContainerClient, lab: Any
) -> None:
    container.upload_blob("leased", b"1")
    blob = container.get_blob_client("leased")
    lease = blob.acquire_lease(lease_duration=60)
    commands.set_clock(lab.home, advance_seconds=61)
    blob.upload_blob(b"2", overwrite=True)
    with pytest.raises(HttpResponseError):
        blob.upload_blob(b"3", overwrite=True, lease=lease)
    with pytest.raises(HttpResponseError) as caught:
        lease.renew()
    assert caught.value.error_code == "LeaseNotPresentWithLeaseOperation"
    assert blob.download_blob().readall() == b"2"


def test_an_immutable_blob_cannot_be_changed_or_deleted(
    container: ContainerClient, lab: Any
) -> None:
    container.upload_blob("evidence", b"1")
    blob = container.get_blob_client("evidence")
    policy = ImmutabilityPolicy(expiry_time=soon(lab, days=300), policy_mode="Locked")
    blob.set_immutability_policy(policy)
    for change in (lambda: blob.upload_blob(b"2", overwrite=True), blob.delete_blob):
        with pytest.raises(HttpResponseError) as caught:
            change()
        assert caught.value.error_code == "BlobImmutableDueToPolicy"
    with pytest.raises(HttpResponseError):
        blob.delete_immutability_policy()
    shorter = ImmutabilityPolicy(expiry_time=soon(lab, days=10), policy_mode="Locked")
    with pytest.raises(HttpResponseError):
        blob.set_immutability_policy(shorter)
    assert blob.get_blob_properties().immutability_policy.policy_mode == "locked"
    assert blob.download_blob().readall() == b"1"


def test_a_legal_hold_lasts_until_it_is_lifted(container: ContainerClient) -> None:
    container.upload_blob("held", b"1")
    blob = container.get_blob_client("held")
    assert blob.set_legal_hold(True)["legal_hold"] is True
    with pytest.raises(HttpResponseError):
        blob.delete_blob()
    blob.set_legal_hold(False)
    blob.delete_blob()


def test_a_container_sas_grants_what_it_says(container: ContainerClient, lab: Any) -> None:
    account, key = lab.status["storage"]["account"], account_key(lab)
    container.upload_blob("there", b"1")

    def with_rights(rights: str, **more: Any) -> ContainerClient:
        sas = generate_container_sas(
            account,
            container.container_name,
            account_key=key,
            permission=ContainerSasPermissions.from_string(rights),
            expiry=more.pop("expiry", soon(lab)),
            **more,
        )
        url = f"{lab.blob_url()}/{container.container_name}?{sas}"
        return ContainerClient.from_container_url(url, **quick(lab))

    with with_rights("rl") as reader:
        assert reader.download_blob("there").readall() == b"1"
        assert list(reader.list_blob_names()) == ["there"]
        with pytest.raises(HttpResponseError) as caught:
            reader.upload_blob("new", b"2")
        assert (caught.value.status_code, caught.value.error_code) == (
            403,
            "AuthorizationPermissionMismatch",
        )
    with with_rights("c") as creator:
        creator.upload_blob("new", b"2")
        with pytest.raises(HttpResponseError) as caught:
            creator.upload_blob("new", b"3", overwrite=True)
        assert caught.value.error_code == "UnauthorizedBlobOverwrite"
    with (
        with_rights("rl", expiry=soon(lab, hours=-1), start=soon(lab, hours=-2)) as late,
        pytest.raises(ClientAuthenticationError),
    ):
        late.download_blob("there")
    with (
        with_rights("rl", start=soon(lab, days=2), expiry=soon(lab, days=3)) as early,
        pytest.raises(ClientAuthenticationError),
    ):
        early.download_blob("there")


def test_a_signature_that_was_tampered_with_is_refused(
    container: ContainerClient, lab: Any
) -> None:
    sas = generate_container_sas(
        lab.status["storage"]["account"],
        container.container_name,
        account_key=account_key(lab),
        permission=ContainerSasPermissions(read=True, list=True),
        expiry=soon(lab),
    )
    widened = sas.replace("sp=rl", "sp=rwl")
    assert widened != sas
    url = f"{lab.blob_url()}/{container.container_name}?{widened}"
    with (
        ContainerClient.from_container_url(url, **quick(lab)) as client,
        pytest.raises(ClientAuthenticationError) as caught,
    ):
        list(client.list_blobs())
    assert caught.value.error_code == "AuthenticationFailed"


def test_a_blob_sas_covers_one_blob(container: ContainerClient, lab: Any) -> None:
    container.upload_blob("one", b"1")
    container.upload_blob("two", b"2")
    sas = generate_blob_sas(
        lab.status["storage"]["account"],
        container.container_name,
        "one",
        account_key=account_key(lab),
        permission=BlobSasPermissions(read=True),
        expiry=soon(lab),
    )
    with BlobServiceClient(lab.blob_url(), credential=sas, **quick(lab)) as client:
        assert (
            client.get_blob_client(container.container_name, "one").download_blob().readall()
            == b"1"
        )
        with pytest.raises(ClientAuthenticationError):
            client.get_blob_client(container.container_name, "two").download_blob()


def test_an_account_sas_is_held_to_its_resource_types(container: ContainerClient, lab: Any) -> None:
    container.upload_blob("one", b"1")
    sas = generate_account_sas(
        lab.status["storage"]["account"],
        account_key=account_key(lab),
        resource_types=ResourceTypes(object=True),
        permission=AccountSasPermissions(read=True, list=True),
        expiry=soon(lab),
    )
    with BlobServiceClient(lab.blob_url(), credential=sas, **quick(lab)) as client:
        assert (
            client.get_blob_client(container.container_name, "one").download_blob().readall()
            == b"1"
        )
        with pytest.raises(HttpResponseError) as caught:
            list(client.get_container_client(container.container_name).list_blobs())
        assert caught.value.error_code == "AuthorizationResourceTypeMismatch"


def test_a_bearer_needs_a_data_role_and_can_delegate(container: ContainerClient, lab: Any) -> None:
    with BlobServiceClient(lab.blob_url(), credential=lab.credential(), **quick(lab)) as client:
        mine = client.get_container_client(container.container_name)
        mine.upload_blob("bearer", b"1")
        key = client.get_user_delegation_key(soon(lab, hours=-1), soon(lab))
    sas = generate_container_sas(
        lab.status["storage"]["account"],
        container.container_name,
        user_delegation_key=key,
        permission=ContainerSasPermissions(
            read=True, list=True, create=True, write=True, delete=True
        ),
        expiry=soon(lab),
    )
    url = f"{lab.blob_url()}/{container.container_name}?{sas}"
    with ContainerClient.from_container_url(url, **quick(lab)) as delegated:
        assert list(delegated.list_blob_names()) == ["bearer"]
        delegated.delete_blob("bearer")


def test_no_credentials_at_all_are_a_401(container: ContainerClient, lab: Any) -> None:
    url = f"{lab.blob_url()}/{container.container_name}"
    with (
        ContainerClient.from_container_url(url, **quick(lab)) as client,
        pytest.raises(ClientAuthenticationError) as caught,
    ):
        list(client.list_blobs())
    assert caught.value.status_code == 401


def test_the_token_of_the_status_document_opens_the_backup(lab: Any) -> None:
    storage = lab.status["storage"]
    url = f"{lab.blob_url()}/{storage['container']}?{storage['sas']}"
    with ContainerClient.from_container_url(url, **quick(lab)) as client:
        names = list(client.list_blob_names(name_starts_with=lab.status["backup"]["folder"] + "/"))
    assert f"{lab.status['backup']['folder']}/manifest.json" in names


async def test_the_asynchronous_client_works_as_well(container: ContainerClient, lab: Any) -> None:
    proxies = {
        "proxies": lab.transport["proxies"],
        "connection_verify": lab.status["ca"],
        "use_env_settings": False,
    }
    async with (
        ClientSecretCredential(*lab.sign_in, **proxies) as credential,
        AsyncBlobServiceClient(lab.blob_url(), credential=credential, **proxies) as client,
    ):
        mine = client.get_container_client(container.container_name)
        data = os.urandom(200_000)
        await mine.upload_blob("aio", data)
        assert await (await mine.download_blob("aio")).readall() == data
        assert [one.name async for one in mine.list_blobs()] == ["aio"]
