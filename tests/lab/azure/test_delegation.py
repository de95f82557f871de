"""A SAS that the operator's own sign-in makes, against the lab's Blob service and HSM."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from drengine.actions.sas import BACKUP_RIGHTS, LIST_RIGHT, RESTORE_RIGHTS, RIGHTS
from drengine.azure.cloud import AzureCloud
from drengine.azure.delegation import LASTS_MS, RENEWED_MS
from drengine.azure.exchanges import collect_exchanges
from drengine.errors import NotAuthorized
from drengine.lab import commands
from drengine.lab.clock import LabClock
from drengine.lab.home import LabHome
from drengine.lab.store import Store
from drengine.model.cloud import OperationState, StorageTarget


def url_of(lab) -> str:
    storage = lab.status["storage"]
    return f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"


def now_ms(lab) -> int:
    return LabClock(lab.home / "clock.json").now_ms()


async def test_a_backup_is_written_and_listed_with_it(own_lab, sign_in, finish):
    url = url_of(own_lab)
    async with AzureCloud(sign_in(own_lab)) as cloud:
        sas = await cloud.storage.delegated_sas(url, RIGHTS, now_ms(own_lab))
        target = StorageTarget(url, sas)
        hsm = cloud.hsm("https://contoso--hsm.managedhsm.azure.net")
        done = await finish(cloud, await hsm.start_backup(target))
        assert done.state is OperationState.SUCCEEDED
        folder = done.result.rstrip("/").rsplit("/", 1)[-1]
        assert await cloud.storage.list_blobs(target, f"{folder}/")
    said = parse_qs(sas.reveal())
    assert (said["sr"], set(said["sp"][0])) == (["c"], set(RIGHTS))
    assert said["spr"] == ["https"]
    assert said["skoid"] == [own_lab.status["object_id"]]


async def test_each_use_does_with_the_rights_that_are_documented_for_it(own_lab, sign_in, finish):
    url = url_of(own_lab)
    async with AzureCloud(sign_in(own_lab)) as cloud:

        async def made(rights: str) -> StorageTarget:
            return StorageTarget(
                url, await cloud.storage.delegated_sas(url, rights, now_ms(own_lab))
            )

        hsm = cloud.hsm("https://contoso--hsm.managedhsm.azure.net")
        done = await finish(cloud, await hsm.start_backup(await made(BACKUP_RIGHTS)))
        assert done.state is OperationState.SUCCEEDED
        folder = done.result.rstrip("/").rsplit("/", 1)[-1]
        assert await cloud.storage.list_folders(await made(LIST_RIGHT), folder) == [folder]
        back = await finish(cloud, await hsm.start_restore(await made(RESTORE_RIGHTS), folder))
        assert back.state is OperationState.SUCCEEDED


async def test_one_is_made_for_a_day_and_another_when_half_of_it_is_over(lab, sign_in):
    url, now = url_of(lab), now_ms(lab)
    async with AzureCloud(sign_in(lab)) as cloud:
        with collect_exchanges() as exchanges:
            times = (now, now + 1, now + LASTS_MS - RENEWED_MS, now + LASTS_MS - RENEWED_MS + 1)
            made = [await cloud.storage.delegated_sas(url, RIGHTS, at) for at in times]
        asked = [exchange for exchange in exchanges if "userdelegationkey" in exchange.path]
    assert made[0] == made[1] == made[2] != made[3]
    assert [(exchange.method, exchange.sent) for exchange in asked] == [("POST", False)] * 2


async def test_whoever_has_no_role_on_the_account_is_told_which(own_lab, sign_in):
    url = url_of(own_lab)
    take_away_roles(own_lab)
    async with AzureCloud(sign_in(own_lab)) as cloud:
        with pytest.raises(NotAuthorized) as caught:
            await cloud.storage.delegated_sas(url, RIGHTS, now_ms(own_lab))
    assert "making a SAS of" in caught.value.message
    assert "Storage Blob Data Contributor" in caught.value.hint


def take_away_roles(lab) -> None:
    store = Store(LabHome(lab.home).database, LabClock(lab.home / "clock.json").now_ms)
    account, person = lab.status["storage"]["account"], lab.status["object_id"]
    try:
        with store.transaction() as tx:
            tx.put("storage.role", f"{account}/{person}", {"roles": []})
    finally:
        store.close()


async def test_the_lab_is_asked_in_its_own_time(own_lab, sign_in):
    commands.set_clock(own_lab.home, advance_seconds=400 * 86_400)
    url = url_of(own_lab)
    async with AzureCloud(sign_in(own_lab)) as cloud:
        sas = await cloud.storage.delegated_sas(url, RIGHTS, now_ms(own_lab))
        assert await cloud.storage.list_folders(StorageTarget(url, sas), "mhsm-")
