"""What happens to a request that only reads: bounded patience, and plain words at the end."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from drengine.azure.cloud import AzureCloud
from drengine.errors import AzureError, NotAuthorized, Throttled
from drengine.model.cloud import StorageTarget

HSM = "https://lab--hsm.managedhsm.azure.net"
RESOURCE = {"id": "/subscriptions/s/resourceGroups/rg/x", "name": "lab--hsm", "properties": {}}
TRANSIENT = [408, 429, 500, 502, 503, 504]


async def read(cloud):
    return await cloud.hsms.get("rg", "lab--hsm")


@pytest.mark.parametrize("status", TRANSIENT)
async def test_a_transient_fault_is_asked_again(status, azure, cloud, naps, new_reply):
    azure.answer(new_reply(status), new_reply(status), new_reply(200, body=RESOURCE))

    assert (await read(cloud)).name == "lab--hsm"

    assert len(azure.authorised()) == 3
    assert len(naps.seconds) == 2


@pytest.mark.parametrize("status", TRANSIENT)
async def test_patience_ends_after_three_tries(status, azure, cloud, new_reply):
    azure.answer(new_reply(status))

    with pytest.raises(AzureError) as caught:
        await read(cloud)

    assert len(azure.authorised()) == 3
    assert (caught.value.status, caught.value.transient) == (status, True)
    assert isinstance(caught.value, Throttled) == (status == 429)


async def test_a_connection_that_closes_is_tried_again_by_us_and_by_nobody_else(
    azure, cloud, new_reply
):
    azure.answer(new_reply(close=True))

    with pytest.raises(AzureError) as caught:
        await read(cloud)

    assert len(azure.authorised()) == 3
    assert caught.value.transient


@pytest.mark.parametrize("spoilt", [{"status": 503}, {"close": True}], ids=["503", "closed"])
async def test_the_data_planes_clients_do_not_try_again_by_themselves(
    spoilt, azure, cloud, new_reply
):
    azure.answer(new_reply(**spoilt))

    with pytest.raises(AzureError):
        await cloud.hsm(HSM).key_names()

    assert len(azure.authorised()) == 3, "our three tries, and none below them"


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [("1", 1, 1.25), ("30", 30, 37.5), ("-5", 0.5, 0.625), ("soon", 0.5, 0.625)],
)
async def test_a_wait_that_is_asked_for_is_honoured(
    asked, low, high, azure, cloud, naps, new_reply
):
    azure.answer(new_reply(503, {"retry-after": asked}), new_reply(200, body=RESOURCE))

    await read(cloud)

    assert low <= naps.seconds[0] <= high


@pytest.mark.parametrize(("asked", "told"), [("31", 31), ("900", 600), ("1e9", 600)])
async def test_a_long_wait_is_not_sat_out_and_not_cut_short(
    asked, told, azure, cloud, naps, new_reply
):
    azure.answer(new_reply(503, {"retry-after": asked}), new_reply(200, body=RESOURCE))

    with pytest.raises(AzureError) as caught:
        await read(cloud)

    assert (len(azure.authorised()), naps.seconds) == (1, [])
    assert caught.value.retry_after_seconds == told


async def test_garbled_json_is_asked_again(azure, cloud, new_reply):
    json_type = {"content-type": "application/json"}
    azure.answer(new_reply(200, json_type, b'{"name": "lab'), new_reply(200, body=RESOURCE))

    assert (await read(cloud)).name == "lab--hsm"


async def test_a_document_that_is_no_such_document_is_an_error_of_the_service(
    azure, cloud, new_reply
):
    azure.answer(new_reply(200, {"content-type": "application/xml"}, b"<EnumerationResults/>"))
    target = StorageTarget("https://lab-acct.blob.core.windows.net/backups")

    with pytest.raises(AzureError, match="not understood"):
        await cloud.storage.list_blobs(target, "mhsm-")


async def test_a_redirect_is_not_followed_and_not_tried_again(azure, cloud, new_reply):
    azure.answer(new_reply(307, {"location": "https://evil.example/"}))

    with pytest.raises(AzureError) as caught:
        await read(cloud)

    assert (caught.value.status, len(azure.authorised())) == (307, 1)


async def test_forbidden_is_not_tried_again(azure, cloud, new_reply):
    azure.answer(new_reply(403, body={"error": {"code": "Forbidden", "message": "no right"}}))

    with pytest.raises(NotAuthorized) as caught:
        await cloud.hsm(HSM).key_names()

    assert (caught.value.service_code, len(azure.authorised())) == ("Forbidden", 1)


async def test_a_token_that_is_refused_is_fetched_anew_once(azure, cloud, tokens, new_reply):
    azure.script = lambda arrival: (
        new_reply(200, body=RESOURCE)
        if arrival.headers["authorization"] == "Bearer token-2"
        else new_reply(401, body={"error": {"code": "ExpiredAuthenticationToken"}})
    )

    assert (await read(cloud)).name == "lab--hsm"

    assert len(tokens.given) == 2


async def test_what_does_not_exist_is_none(azure, cloud, new_reply):
    azure.answer(new_reply(404, body={"error": {"code": "ResourceNotFound"}}))

    assert await read(cloud) is None
    assert await cloud.hsm(HSM).upload_status() is None


SQL = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Sql/managedInstances/sqlmi-a"
IDENTITY = (
    "/subscriptions/s/resourceGroups/rg/providers"
    "/Microsoft.ManagedIdentity/userAssignedIdentities/id one"
)
FINDS = {
    "hsm": lambda c: c.hsms.get("rg", "lab--hsm"),
    "group": lambda c: c.hsms.has_group("rg"),
    "instance": lambda c: c.sql.get(SQL),
    "identity": lambda c: c.subscription.has_identity(IDENTITY),
    "upload": lambda c: c.hsm(HSM).upload_status(),
}


@pytest.mark.parametrize("find", FINDS.values(), ids=FINDS.keys())
@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>404: nothing here (gateway)</body></html>",
        b"",
        {"message": "no route"},
        {"error": {"code": "SubscriptionNotFound", "message": "m"}},
        {"error": {"code": "InvalidResourceType", "message": "m"}},
    ],
    ids=["page", "empty", "foreign", "subscription", "type"],
)
async def test_a_404_that_does_not_say_so_is_no_absence(find, body, azure, cloud, new_reply):
    azure.answer(new_reply(404, body=body))

    with pytest.raises(AzureError) as caught:
        await find(cloud)

    assert caught.value.status == 404


@pytest.mark.parametrize("code", ["ResourceGroupNotFound", "NotFound", "404"])
async def test_a_hsm_is_absent_by_each_code_that_says_so(code, azure, cloud, new_reply):
    azure.answer(new_reply(404, body={"error": {"code": code}}))

    assert await read(cloud) is None


async def test_a_service_that_says_nothing_but_404_is_known_by_its_request_id(
    azure, cloud, new_reply
):
    azure.answer(new_reply(404, {"x-ms-request-id": "1"}))

    assert await read(cloud) is None
    assert await cloud.hsm(HSM).upload_status() is None


async def test_only_its_own_code_says_that_a_group_is_absent(azure, cloud, new_reply):
    azure.answer(new_reply(404, body={"error": {"code": "ResourceGroupNotFound"}}))
    assert not await cloud.hsms.has_group("rg")

    azure.answer(new_reply(404, body={"error": {"code": "ResourceNotFound"}}))
    with pytest.raises(AzureError):
        await cloud.hsms.has_group("rg")


async def test_a_certificate_of_another_authority_is_not_trusted_and_not_tried_again(
    azure, new_session, naps, stranger
):
    async with AzureCloud(new_session(trust=stranger.file)) as cloud:
        with pytest.raises(AzureError) as caught:
            await read(cloud)

    assert not caught.value.transient
    assert "SSL_CERT_FILE" in caught.value.hint
    assert (azure.arrivals, naps.seconds) == ([], [])


async def test_using_a_key_is_a_read_although_it_is_a_post(azure, cloud, new_reply):
    kid = f"{HSM}/keys/k/0123"
    azure.answer(new_reply(503), new_reply(200, body={"kid": kid, "value": "AQID"}))

    assert await cloud.hsm(HSM).unwrap(kid, "RSA-OAEP-256", b"\x01") == b"\x01\x02\x03"

    last = azure.authorised()[-1]
    assert last.target.startswith("/keys/k/0123/unwrapkey?")
    assert last.json() == {"alg": "RSA-OAEP-256", "value": "AQ"}


@pytest.mark.parametrize("nested", [True, False])
async def test_the_exchange_key_may_be_text_or_an_object(nested, azure, cloud, new_reply):
    certificate = b"certificate of the exchange key"
    text = base64.b64encode(certificate).decode()
    key = {"kty": "RSA", "x5c": [text, "AAAA"], "x5t#S256": "not to be believed"}
    wire = json.dumps(key) if nested else key
    azure.answer(new_reply(200, body={"key_format": "jwk", "transfer_key": wire}))

    found = await cloud.hsm(HSM).transfer_key()

    expected = base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=")
    assert (found.certificate_der, found.x5t_256) == (certificate, expected.decode())


@pytest.mark.parametrize("wire", [None, "{}", '{"x5c": []}', {"x5c": ["%%"]}, "not json"])
async def test_an_exchange_key_without_a_certificate_is_refused(wire, azure, cloud, new_reply):
    azure.answer(new_reply(200, body={"transfer_key": wire}))

    with pytest.raises(AzureError, match="no certificate"):
        await cloud.hsm(HSM).transfer_key()
