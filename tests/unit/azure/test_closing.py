"""A session that was closed leaves nothing behind, whatever the other side does."""

from __future__ import annotations

import asyncio
import gc
import warnings

from drengine.azure.cloud import AzureCloud

SQL = (
    "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg"
    "/providers/Microsoft.Sql/managedInstances/sqlmi-a"
)


def test_no_connection_outlives_the_session_that_made_it(azure, new_session, new_reply):
    """Not even the one of a change, whose other side neither answers the end of TLS nor closes."""

    async def change_and_look() -> None:
        async with AzureCloud(new_session()) as cloud:
            await cloud.sql.protector(SQL)
            azure.answer(new_reply(200, body={"properties": {}}, hold=True))
            await cloud.sql.put_protector(SQL, "h_k_v")

    azure.answer(
        new_reply(200, body={"properties": {"uri": "https://h/keys/k/v", "thumbprint": "A"}})
    )
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(change_and_look())
        gc.collect()

    assert [str(one.message) for one in caught] == []
    assert len(azure.changing()) == 1
