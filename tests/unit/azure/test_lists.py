"""Reading lists: what is no list does not say that there is nothing, and every list has an end."""

from __future__ import annotations

import asyncio

import pytest

from drengine.azure import storage, transport
from drengine.errors import AzureError, GuardError
from drengine.model.cloud import StorageTarget

HSM = "https://lab--hsm.managedhsm.azure.net"
ARM = "https://management.azure.com"
SQL = (
    "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg"
    "/providers/Microsoft.Sql/managedInstances/sqlmi-a"
)
TARGET = StorageTarget("https://lab-acct.blob.core.windows.net/backups")

LISTS = {
    "instances": lambda c: c.sql.instances(),
    "keys of an instance": lambda c: c.sql.keys(SQL),
    "databases": lambda c: c.sql.databases(SQL),
    "operations": lambda c: c.sql.busy(SQL),
    "key names": lambda c: c.hsm(HSM).key_names(),
    "keys": lambda c: c.hsm(HSM).keys(),
    "roles": lambda c: c.hsm(HSM).role_assignments(),
    "hsms": lambda c: c.hsms.find("lab--hsm"),
    "hsms of a group": lambda c: c.hsms.has_group("rg"),
    "permissions": lambda c: c.subscription.permissions("/subscriptions/s/resourceGroups/rg"),
    "regions": lambda c: c.subscription.geographies(),
    "deleted hsms": lambda c: c.hsms.find_deleted("lab--hsm"),
}
each_list = pytest.mark.parametrize("read", LISTS.values(), ids=LISTS.keys())
NO_LISTS = {
    "empty": b"",
    "no value": {},
    "null": {"value": None},
    "text": {"value": "none"},
    "no objects": {"value": ["a"]},
    "error": {"error": {"code": "InternalServerError", "message": "later"}},
    "both": {"value": [], "error": {"code": "InternalServerError", "message": "later"}},
}


@each_list
@pytest.mark.parametrize("body", NO_LISTS.values(), ids=NO_LISTS.keys())
async def test_an_answer_without_a_list_is_not_an_empty_list(read, body, azure, cloud, new_reply):
    azure.answer(new_reply(200, body=body))

    with pytest.raises(AzureError) as caught:
        await read(cloud)

    assert caught.value.transient


@each_list
async def test_an_empty_list_is_one(read, azure, cloud, new_reply):
    azure.answer(new_reply(200, body={"value": []}))

    assert not await read(cloud) or read is LISTS["hsms of a group"]


@pytest.mark.parametrize("code", ["MissingSubscriptionRegistration", "SubscriptionNotRegistered"])
async def test_a_subscription_without_the_provider_has_no_instances(code, azure, cloud, new_reply):
    azure.answer(new_reply(409, body={"error": {"code": code, "message": "m"}}))

    assert await cloud.sql.instances() == []

    azure.answer(new_reply(409, body={"error": {"code": "Conflict", "message": "m"}}))
    with pytest.raises(AzureError):
        await cloud.sql.instances()


async def test_an_answer_without_a_list_is_asked_again(azure, cloud, new_reply):
    azure.answer(new_reply(200, body={}), new_reply(200, body={"value": [{"id": SQL}]}))

    assert [one.id for one in await cloud.sql.instances()] == [SQL]


async def test_the_second_page_must_be_one_too(azure, cloud, new_reply):
    first = {"value": [{"id": SQL}], "nextLink": f"{ARM}/subscriptions?page=2"}
    azure.script = lambda a: new_reply(200, body={} if "page=2" in a.target else first)

    with pytest.raises(AzureError, match="without a list"):
        await cloud.sql.instances()


@pytest.mark.parametrize("read", [LISTS["instances"], LISTS["hsms"]], ids=["ours", "the SDK's"])
async def test_pages_that_lead_in_a_circle_are_left(read, azure, cloud, new_reply):
    pages = {"a": "b", "b": "a"}

    def script(arrival):
        page = "a" if "page=a" in arrival.target else "b"
        return new_reply(
            200, body={"value": [], "nextLink": f"{ARM}/subscriptions/x?page={pages[page]}"}
        )

    azure.script = script
    async with asyncio.timeout(20):
        with pytest.raises(AzureError, match="lead back"):
            await read(cloud)


@pytest.mark.parametrize("read", [LISTS["instances"], LISTS["hsms"]], ids=["ours", "the SDK's"])
async def test_a_list_has_an_end(read, azure, cloud, new_reply, monkeypatch):
    monkeypatch.setattr(transport, "MAX_PAGES", 3)

    def script(_):
        link = f"{ARM}/subscriptions/x?page={len(azure.arrivals)}"
        return new_reply(200, body={"value": [], "nextLink": link})

    azure.script = script
    with pytest.raises(AzureError, match="more than 3 pages"):
        await read(cloud)


def listing(marker):
    return f"<EnumerationResults><Blobs/><NextMarker>{marker}</NextMarker></EnumerationResults>"


async def test_markers_that_lead_in_a_circle_are_left(azure, cloud, new_reply):
    azure.script = lambda _: new_reply(200, body=listing("m").encode())

    async with asyncio.timeout(20):
        with pytest.raises(AzureError, match="lead back"):
            await cloud.storage.list_blobs(TARGET, "mhsm-")


async def test_a_folder_has_an_end(azure, cloud, new_reply, monkeypatch):
    monkeypatch.setattr(storage, "MAX_PAGES", 3)
    azure.script = lambda _: new_reply(200, body=listing(len(azure.arrivals)).encode())

    with pytest.raises(AzureError, match="more than 3 pages"):
        await cloud.storage.list_blobs(TARGET, "mhsm-")


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
async def test_a_document_type_is_found_in_every_coding(coding, azure, cloud, new_reply):
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "hidden">]><EnumerationResults><Blobs><Blob><Name>&a;</Name>'
        "</Blob></Blobs></EnumerationResults>"
    )
    azure.script = lambda _: new_reply(200, body=bomb.encode(coding))

    with pytest.raises(AzureError, match="not understood"):
        await cloud.storage.list_blobs(TARGET, "mhsm-")


@pytest.mark.parametrize(
    "host",
    [
        "other--hsm.managedhsm.azure.net",
        "lab-acct.blob.core.windows.net",
        "sqlmi.database.windows.net",
        "login.microsoftonline.com",
    ],
)
@pytest.mark.parametrize("read", [LISTS["instances"], LISTS["hsms"], LISTS["key names"]])
async def test_a_next_link_to_another_host_of_the_cloud_is_not_followed(
    read, host, azure, cloud, new_reply
):
    own = "lab--hsm.managedhsm.azure.net" if read is LISTS["key names"] else "management.azure.com"
    link = f"https://{host}/more?api-version=1"
    azure.script = lambda _: new_reply(200, body={"value": [], "nextLink": link})

    with pytest.raises(GuardError, match=host):
        await read(cloud)

    assert {arrival.host for arrival in azure.authorised()} == {own}


async def test_a_read_in_many_parts_that_failed_leaves_none_behind(azure, cloud, new_reply):
    names = [{"kid": f"{HSM}/keys/k{i}", "attributes": {"enabled": True}} for i in range(100)]

    def script(arrival):
        if arrival.target.startswith("/keys?"):
            return new_reply(200, body={"value": names})
        return new_reply(503, body={"error": {"code": "ServiceUnavailable", "message": "m"}})

    azure.script = script
    with pytest.raises(AzureError, match="ServiceUnavailable"):
        await cloud.hsm(HSM).keys()
    sent = len(azure.arrivals)
    await asyncio.sleep(0.5)

    assert len(azure.arrivals) - sent <= 8, "those that the server had read, and none after them"
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
