"""Bad input gets the service's own refusal: never a traceback, a hang, or a changed lab."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from drengine.lab import commands, server
from drengine.lab.dispatch import Dispatcher, RawRequest
from drengine.lab.entra import mint_token
from drengine.lab.home import LabHome
from drengine.lab.serve import open_lab
from drengine.lab.services import ROUTES

ARM = "management.azure.com"
HSM = "contoso--hsm.managedhsm.azure.net"
BLOB = "contoso-backups.blob.core.windows.net"
LOGIN = "login.microsoftonline.com"
AUDIENCES = {
    ARM: "https://management.azure.com",
    HSM: "https://managedhsm.azure.net",
    BLOB: "https://storage.azure.com",
}
DEEP = b"[" * 60_000


@pytest.fixture(scope="module")
def dispatcher(lab: Any) -> Dispatcher:
    """A second door to the running lab's state, inside this process."""
    return Dispatcher(open_lab(LabHome(lab.home)), ROUTES)


@pytest.fixture(scope="module")
def names(lab: Any) -> dict[str, str]:
    found = lab.status
    group = f"/subscriptions/{found['subscription']}/resourceGroups/{found['resource_group']}"
    return {
        "arm": f"{group}/providers/Microsoft.KeyVault/managedHSMs",
        "mi": f"{group}/providers/Microsoft.Sql/managedInstances/sqlmi-a",
        "net": f"{group}/providers/Microsoft.Network",
        "fog": f"{group}/providers/Microsoft.Sql/locations/westeurope/instanceFailoverGroups",
        "sub": found["subscription"],
        "tenant": found["tenant"],
        "who": found["object_id"],
    }


@pytest.fixture(scope="module")
def send(dispatcher: Dispatcher, names: dict[str, str]) -> Any:
    def ask(method: str, host: str, target: str, body: bytes = b"", **headers: str) -> Any:
        token = mint_token(
            tenant=names["tenant"],
            object_id=names["who"],
            app_id="x",
            audience=AUDIENCES.get(host, ""),
            kind="operator",
            lifetime_seconds=600,
        )
        sent = {"host": host, "authorization": f"Bearer {token}", **headers}
        return dispatcher.answer(RawRequest(method, host, target, sent, body))

    return ask


def code_of(host: str, answer: Any) -> str:
    """Return the error code from the envelope of the host's own service."""
    if host == BLOB:
        root = ET.fromstring(answer.body)  # noqa: S314 - our own answer
        assert root.tag == "Error"
        assert root.findtext("Code") == answer.headers["x-ms-error-code"]
        return str(root.findtext("Code"))
    found = json.loads(answer.body)["error"]
    if host == LOGIN:
        return str(found)
    assert found["message"]
    assert ("innererror" in found) == (host == HSM)
    return str(found["code"])


def placed(target: str, names: dict[str, str]) -> str:
    """Put the lab's own names in the place of those in braces."""
    for name, text in names.items():
        target = target.replace("{" + name + "}", text)
    return target


def sas(names: str) -> str:
    return f"/hsm-backups/a?{names}"


REFUSALS = r"""
PUT  ARM  {arm}/contoso--x  {  400  BadParameter
PUT  ARM  {arm}/contoso--x  -  400  BadParameter
PUT  ARM  {arm}/contoso--x  []  400  BadParameter
PUT  ARM  {arm}/contoso--x  <deep>  400  BadParameter
PUT  ARM  {arm}/contoso--x  {"properties":7}  400  BadParameter
PUT  ARM  {arm}/contoso--x  {"location":"\ud800"}  400  BadParameter
PUT  ARM  {arm}/x_y  {"location":"uksouth"}  400  400
GET  ARM  {arm}/nope  -  404  ResourceNotFound
GET  ARM  {arm}/../../../etc/passwd  -  404  ResourceNotFound
GET  ARM  {arm}/%00  -  404  ResourceNotFound
GET  ARM  {mi}/databases/nope  -  404  ResourceNotFound
GET  ARM  /subscriptions/nope  -  404  SubscriptionNotFound
GET  ARM  /subscriptions/nope/resourceGroups  -  404  SubscriptionNotFound
GET  ARM  {arm}x/y  -  404  ResourceNotFound
OPTIONS  ARM  {arm}  -  405  MethodNotAllowed
PATCH  ARM  {mi}  {"properties":true}  400  BadParameter
PUT  ARM  {net}/virtualNetworks/v  {"properties":{"subnets":1}}  400  BadParameter
POST  HSM  /keys/a/create  not json  400  BadParameter
POST  HSM  /keys/a/create  {"kty":7}  400  BadParameter
POST  HSM  /keys/a/create  {"kty":"RSA","key_size":1}  400  BadParameter
POST  HSM  /keys/a/create  {"kty":"RSA","key_size":"x"}  400  BadParameter
GET  HSM  /keys/..%2f..%2fkeys  -  404  ResourceNotFound
GET  HSM  /keys?maxresults=%C2%B2  -  400  BadParameter
POST  HSM  /rng  {"count":1e9}  400  BadParameter
POST  HSM  /keys/app-wrap/decrypt  {"alg":"RSA-OAEP","value":"%"}  400  BadParameter
POST  HSM  /backup  {"storageResourceUri":"file:///etc"}  400  BadParameter
POST  HSM  /securitydomain/download  {"certificates":[{}]}  400  BadParameter
GET  HSM  /backup/0123/pending  -  404  ResourceNotFound
GET  BLOB  /nope?restype=container  -  404  ContainerNotFound
GET  BLOB  /hsm-backups/../../etc/passwd  -  404  BlobNotFound
PUT  BLOB  /hsm-backups/a?comp=appendblock  x  404  BlobNotFound
PUT  BLOB  /hsm-backups/a?comp=blocklist  <a  400  InvalidXmlDocument
GET  BLOB  /hsm-backups?restype=container&comp=list&marker=%FF  -  400  InvalidQueryParameterValue
POST  LOGIN  /{tenant}/oauth2/v2.0/token  <ff>  400  unsupported_grant_type
POST  LOGIN  /nobody/oauth2/v2.0/token  grant_type=x  400  invalid_request
"""
"""Method, host, target, body, status, code; two spaces between them. No body is a hyphen."""
HOSTS = {"ARM": ARM, "HSM": HSM, "BLOB": BLOB, "LOGIN": LOGIN}
BODIES_OF = {"-": b"", "<deep>": DEEP, "<ff>": b"\xff"}


@pytest.mark.parametrize("line", REFUSALS.strip().splitlines())
def test_a_bad_request_is_refused_in_the_words_of_its_service(
    send: Any, names: dict[str, str], line: str
) -> None:
    method, host, target, text, status, code = line.split("  ")
    answer = send(method, HOSTS[host], placed(target, names), BODIES_OF.get(text, text.encode()))
    assert (answer.status, code_of(HOSTS[host], answer)) == (int(status), code)


@pytest.mark.parametrize(
    "query",
    [
        "sv=2022-11-02&sr=c&sp=rl&se=never&sig=x",
        "sv=2022-11-02&sr=c&sp=rl&se=2099-01-01T00:00:00Z&sig=%25%25",
        "sv=&sr=&sp=&se=&sig=",
        "sig=x",
        "sv=2022-11-02&ss=b&srt=sco&sp=rl&se=2099-01-01&sig=AAAA",
        "sv=2022-11-02&skoid=x&sktid=x&skt=x&ske=x&sr=c&sp=r&se=2099-01-01&sig=AAAA",
    ],
)
def test_a_broken_sas_is_an_authentication_failure(dispatcher: Dispatcher, query: str) -> None:
    answer = dispatcher.answer(RawRequest("GET", BLOB, sas(query), {"host": BLOB}, b""))
    assert (answer.status, code_of(BLOB, answer)) == (403, "AuthenticationFailed")


def claims(**members: Any) -> str:
    parts = ({"alg": "none"}, members)
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).decode() for one in parts)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer a.b.",
        "Bearer é",
        "Basic YTpi",
        f"Bearer {base64.b64encode(DEEP).decode()}.e30.",
        "Bearer {claims}.",
        "Bearer " + "a" * 50_000,
    ],
)
@pytest.mark.parametrize("host", [ARM, HSM])
def test_a_bad_token_is_an_answer(
    dispatcher: Dispatcher, names: dict[str, str], authorization: str, host: str
) -> None:
    odd = claims(tid=names["tenant"], aud=AUDIENCES[host], nbf="soon", exp=[])
    headers = {"host": host, "authorization": authorization.replace("{claims}", odd)}
    path = "/keys" if host == HSM else "/subscriptions"
    answer = dispatcher.answer(RawRequest("GET", host, path, headers, b""))
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")


WRONG = (None, True, -1, 10**30, 1.5, "", "x", "\x00", [], [1], [None], {}, {"a": 1})
BODIES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    (
        "PUT",
        ARM,
        "{arm}/contoso--x",
        {
            "location": "uksouth",
            "sku": {"family": "B", "name": "Standard_B1"},
            "tags": {"a": "b"},
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {"x": {}}},
            "properties": {
                "tenantId": "x",
                "initialAdminObjectIds": [],
                "softDeleteRetentionInDays": "28",
                "createMode": "default",
                "networkAcls": {"bypass": "None", "ipRules": [{"value": "1.2.3.4/32"}]},
            },
        },
    ),
    (
        "PATCH",
        ARM,
        "{arm}/contoso--hsm",
        {"properties": {"regions": [{"name": "testregion"}]}, "tags": {}},
    ),
    (
        "PUT",
        ARM,
        "{mi}/encryptionProtector/current",
        {"properties": {"serverKeyType": "AzureKeyVault", "serverKeyName": "no"}},
    ),
    (
        "PUT",
        ARM,
        "{mi}/keys/a_b_c",
        {"properties": {"serverKeyType": "AzureKeyVault", "uri": "https://x/keys/a/b"}},
    ),
    (
        "PUT",
        ARM,
        "{fog}/none",
        {
            "properties": {
                "readWriteEndpoint": {"failoverPolicy": "Manual"},
                "managedInstancePairs": [
                    {"primaryManagedInstanceId": "x", "partnerManagedInstanceId": "y"}
                ],
            }
        },
    ),
    (
        "POST",
        HSM,
        "/keys/broken/import-not-create",
        {"kty": "RSA"},
    ),
    (
        "PUT",
        HSM,
        "/keys/broken",
        {"key": {"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB", "key_ops": ["sign"]}},
    ),
    (
        "POST",
        HSM,
        "/keys/app-wrap/decrypt",
        {"alg": "RSA-OAEP-256", "value": "AQAB"},
    ),
    (
        "PUT",
        HSM,
        "/restore",
        {
            "sasTokenParameters": {
                "storageResourceUri": "https://contoso-backups.blob.core.windows.net/c",
                "token": "",
            },
            "folderToRestore": "f",
        },
    ),
    (
        "PUT",
        HSM,
        "/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-000000000001",
        {"properties": {"roleDefinitionId": "none", "principalId": "x"}},
    ),
    (
        "POST",
        HSM,
        "/securitydomain/download",
        {"certificates": [{"x5c": ["AQAB"], "alg": "RSA-OAEP-256"}], "required": 2},
    ),
)


def spoilt(body: Any) -> Iterator[Any]:
    """Yield the body with each part of it, at every depth, replaced by each wrong value."""
    for wrong in WRONG:
        yield copy.deepcopy(wrong)
    if isinstance(body, dict):
        for name in body:
            for inner in spoilt(body[name]):
                yield {**body, name: inner}
    elif isinstance(body, list):
        for inner in spoilt(body[0] if body else 0):
            yield [inner, *body[1:]]


@pytest.mark.parametrize(("method", "host", "target", "body"), BODIES)
def test_no_body_brings_a_service_down(
    send: Any,
    names: dict[str, str],
    method: str,
    host: str,
    target: str,
    body: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for wrong in spoilt(body):
        answer = send(method, host, placed(target, names), json.dumps(wrong).encode())
        assert answer.status != 500, (wrong, answer.body)
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def impatient(lab: Any, dispatcher: Dispatcher) -> Iterator[int]:
    """A port of the same lab that waits half a second only, and takes small bodies."""
    anchor = open_lab(LabHome(lab.home)).tls
    patch = pytest.MonkeyPatch()
    patch.setattr(server, "HALF_SECONDS", 0.5)
    patch.setattr(server, "LINGER_SECONDS", 0.1)
    patch.setattr(server, "MAX_BODY_BYTES", 8000)
    door = server.LabServer(dispatcher, anchor)
    threading.Thread(target=door.serve_forever, daemon=True).start()
    yield door.port
    door.close()
    patch.undo()


def exchange(lab: Any, port: int, host: str, sent: bytes) -> bytes:
    context = ssl.create_default_context(cafile=lab.status["ca"])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        tls = context.wrap_socket(raw, server_hostname=host)
        with contextlib.closing(tls):
            with contextlib.suppress(OSError):
                tls.sendall(sent)
            received = b""
            with contextlib.suppress(OSError):
                while part := tls.recv(65536):
                    received += part
    return received


@pytest.mark.parametrize(
    ("host", "sent", "status"),
    [
        (ARM, b"\x00\x01garbage\r\n\r\n", 400),
        (HSM, b"\x00\x01garbage\r\n\r\n", 400),
        (BLOB, b"\x00\x01garbage\r\n\r\n", 400),
        (ARM, b"GET / HTTPS\r\n\r\n", 400),
        (HSM, b"GET / HTTP/1.1\r\n\r\n", 400),
        (ARM, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (HSM, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (BLOB, b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (HSM, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (BLOB, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 70_000, 431),
        (ARM, b"GET / HTTP/1.1\r\nHo", 408),
        (BLOB, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", 408),
        (BLOB, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + b" " * 9000, 413),
    ],
)
def test_what_is_no_request_gets_an_envelope_too(
    lab: Any, impatient: int, host: str, sent: bytes, status: int
) -> None:
    received = exchange(lab, impatient, host, sent)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), received[:300]
    assert b"x-drengine-lab: 1" in head
    if host == BLOB:
        assert ET.fromstring(body).findtext("Code")  # noqa: S314 - our own answer
    else:
        assert json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00garbage" + b"\x00" * 600, b"\x16", b"\xff" * 100, b"CONNECT"]
)
def test_garbage_before_tls_ends_the_connection(impatient: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=10) as raw:
        raw.sendall(sent)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := raw.recv(65536):
                received += part
    assert len(received) < 1000


def test_after_all_that_the_lab_is_as_it_was(lab: Any) -> None:
    """This runs last in its file: what was refused has changed nothing, and nothing was thrown."""
    rows = commands.log(lab.home)
    assert {row["status"] for row in rows if row["host"] in AUDIENCES} >= {400, 401, 403, 404}
    assert [row for row in rows if row["status"] == 500] == []
    shown = lab.call("GET", f"https://{HSM}/keys?api-version=7.5")[2]["value"]
    assert len(shown) == 4
    log = (lab.home / "server.log").read_text() if (lab.home / "server.log").exists() else ""
    assert "Traceback" not in log
