"""What the subscription says of providers, regions and identities."""

from __future__ import annotations

import pytest

from drengine.azure.subscription import geographies_of, offer_of
from drengine.errors import NotAuthorized
from drengine.model.cloud import HsmOffer

IDENTITY = (
    "/subscriptions/s/resourceGroups/rg/providers"
    "/Microsoft.ManagedIdentity/userAssignedIdentities/id one?x#y"
)
PROVIDER = {
    "namespace": "Microsoft.KeyVault",
    "registrationState": "Registered",
    "resourceTypes": [
        {"resourceType": "vaults", "locations": ["France South"]},
        {"resourceType": "managedHSMs", "locations": ["West US 2", "East US 2", "West US 2"]},
    ],
}


async def test_the_provider_says_whether_and_where_hsms_may_be_created(azure, cloud, new_reply):
    azure.answer(new_reply(200, body=PROVIDER))

    offer = await cloud.subscription.hsm_offer()

    assert offer == HsmOffer("Registered", ("eastus2", "westus2"))
    (asked,) = azure.authorised()
    assert asked.target.partition("?")[0].endswith("/providers/Microsoft.KeyVault")


@pytest.mark.parametrize(
    "doc", [{}, {"resourceTypes": None}, {"resourceTypes": [{"resourceType": "managedHSMs"}]}]
)
def test_a_provider_that_says_less_offers_nothing_that_is_known(doc):
    assert offer_of(doc) == HsmOffer("", ())


def test_regions_without_a_geography_are_left_out():
    regions = [
        {"name": "westeurope", "metadata": {"geography": "Europe"}},
        {"name": "West US", "metadata": {"geography": "United States"}},
        {"name": "edge", "metadata": None},
        {"name": "other", "metadata": {}},
    ]
    assert geographies_of(regions) == {"westeurope": "Europe", "westus": "United States"}


async def test_an_identity_is_asked_for_by_its_id_and_by_nothing_else(azure, cloud, new_reply):
    azure.answer(new_reply(200, body={"id": IDENTITY}))

    assert await cloud.subscription.has_identity(IDENTITY)

    (asked,) = azure.authorised()
    assert asked.target.endswith("/id%20one%3Fx%23y?api-version=2023-01-31")


@pytest.mark.parametrize("code", ["ResourceNotFound", "ResourceGroupNotFound"])
async def test_an_identity_is_absent_by_each_code_that_says_so(code, azure, cloud, new_reply):
    azure.answer(new_reply(404, body={"error": {"code": code}}))

    assert not await cloud.subscription.has_identity(IDENTITY)


async def test_who_may_not_read_them_is_told_so(azure, cloud, new_reply):
    azure.answer(new_reply(403, body={"error": {"code": "AuthorizationFailed"}}))

    for read in (cloud.subscription.hsm_offer, cloud.subscription.geographies):
        with pytest.raises(NotAuthorized):
            await read()
    with pytest.raises(NotAuthorized):
        await cloud.subscription.has_identity(IDENTITY)
