"""The lab's port as a client meets it: tunnel, TLS, refusals, framing."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import sys
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential
from azure.identity.aio import ClientSecretCredential as AsyncClientSecretCredential
from azure.keyvault.keys.aio import KeyClient

from drengine.lab import commands
from drengine.lab.entra import mint_token

ARM = "https://management.azure.com"


def port_of(lab: Any) -> int:
    return int(lab.status["proxy"].rsplit(":", 1)[1])


def speak(lab: Any, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port_of(lab)), timeout=10) as raw:
        raw.sendall(text)
        received = b""
        while chunk := raw.recv(65536):
            received += chunk
        return received


def strict_context(lab: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=lab.status["ca"])
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def tunnel(lab: Any, host: str) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port_of(lab)), timeout=10)
    raw.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += raw.recv(1)
    assert head.startswith(b"HTTP/1.1 200")
    return strict_context(lab).wrap_socket(raw, server_hostname=host)


def read_answer(sock: ssl.SSLSocket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += sock.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    wanted = int(length[0].split(b":")[1]) if length else 0
    while len(body) < wanted:
        body += sock.recv(65536)
    return head, body


@pytest.mark.parametrize(
    "request_line",
    [
        "CONNECT example.com:443 HTTP/1.1",
        "CONNECT management.azure.com:80 HTTP/1.1",
        "CONNECT management.azure.com.evil.example:443 HTTP/1.1",
        "GET http://169.254.169.254/metadata/instance HTTP/1.1",
        "GET / HTTP/1.1",
    ],
)
def test_what_is_not_a_tunnel_to_the_lab_is_refused_and_logged(lab: Any, request_line: str) -> None:
    before = lab.last_seq()
    answer = speak(lab, f"{request_line}\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"x-drengine-lab: 1" in answer
    (row,) = [row for row in commands.log(lab.home, before) if row["effect"] == "proxy.refused"]
    assert (row["status"], row["authorised"]) == (403, False)


@pytest.mark.parametrize(
    "host",
    [
        "login.microsoftonline.com",
        "management.azure.com",
        "graph.microsoft.com",
        "contoso--hsm.managedhsm.azure.net",
        "contoso-backups.blob.core.windows.net",
        "lab.drengine.invalid",
    ],
)
def test_certificates_pass_strict_verification(lab: Any, host: str) -> None:
    with tunnel(lab, host) as sock:
        names = [value for kind, value in sock.getpeercert()["subjectAltName"] if kind == "DNS"]
    assert names == [host]


def test_direct_tls_takes_the_host_from_the_handshake(lab: Any) -> None:
    raw = socket.create_connection(("127.0.0.1", port_of(lab)), timeout=10)
    host = "lab.drengine.invalid"
    with strict_context(lab).wrap_socket(raw, server_hostname=host) as sock:
        sock.sendall(f"GET /clock HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head, body = read_answer(sock)
    assert head.startswith(b"HTTP/1.1 200")
    assert set(json.loads(body)) == {"now_ms", "speed"}


def test_direct_tls_with_a_foreign_name_ends_in_the_handshake(lab: Any) -> None:
    raw = socket.create_connection(("127.0.0.1", port_of(lab)), timeout=10)
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
        strict_context(lab).wrap_socket(raw, server_hostname="example.com")
    raw.close()


def test_a_tunnel_to_one_host_does_not_serve_another(lab: Any) -> None:
    with tunnel(lab, "lab.drengine.invalid") as sock:
        sock.sendall(b"GET /clock HTTP/1.1\r\nHost: management.azure.com\r\n\r\n")
        head, _ = read_answer(sock)
    assert head.startswith(b"HTTP/1.1 404")


def test_one_connection_serves_many_requests_and_head_has_no_body(lab: Any) -> None:
    with tunnel(lab, "lab.drengine.invalid") as sock:
        for _ in range(3):
            sock.sendall(b"GET /clock HTTP/1.1\r\nHost: lab.drengine.invalid\r\n\r\n")
            head, body = read_answer(sock)
            assert head.startswith(b"HTTP/1.1 200")
            assert body
        sock.sendall(b"HEAD /clock HTTP/1.1\r\nHost: lab.drengine.invalid\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert head.startswith(b"HTTP/1.1 405")
        sock.sendall(b"GET /clock HTTP/1.1\r\nHost: lab.drengine.invalid\r\n\r\n")
        head, _ = read_answer(sock)
        assert head.startswith(b"HTTP/1.1 200")


def test_chunked_bodies_and_expect_continue_are_read(lab: Any) -> None:
    body = b'{"advance_seconds": 1}'
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:5], body[5:]))
    with tunnel(lab, "lab.drengine.invalid") as sock:
        sock.sendall(
            b"POST /clock HTTP/1.1\r\nHost: lab.drengine.invalid\r\nExpect: 100-continue\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        head, _ = read_answer(sock)
        assert head.startswith(b"HTTP/1.1 100")
        sock.sendall(chunks + b"0\r\n\r\n")
        head, answer = read_answer(sock)
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(answer)["speed"] == 600.0


def test_a_body_over_the_limit_is_refused_without_being_kept(lab: Any) -> None:
    with tunnel(lab, "lab.drengine.invalid") as sock:
        sock.sendall(
            b"POST /clock HTTP/1.1\r\nHost: lab.drengine.invalid\r\n"
            b"Content-Length: 90000000\r\n\r\n"
        )
        part = b" " * 1_000_000
        try:
            for _ in range(90):
                sock.sendall(part)
        except OSError:
            return  # the lab closed in the middle, which is as good
        head, _ = read_answer(sock)
    assert head.startswith(b"HTTP/1.1 413")


def test_every_answer_says_that_it_is_a_lab(lab: Any) -> None:
    status, headers, body = lab.call(
        "GET", f"{ARM}/subscriptions?api-version=2022-12-01", **{"x-ms-client-request-id": "abc-1"}
    )
    assert (status, headers["x-drengine-lab"], headers["x-ms-client-request-id"]) == (
        200,
        "1",
        "abc-1",
    )
    assert {"date", "x-ms-request-id", "x-ms-correlation-request-id"} <= set(headers)
    assert body["value"][0]["subscriptionId"] == lab.status["subscription"]


@pytest.mark.parametrize(
    ("token", "audience"),
    [("", ""), ("none", ""), (None, "https://storage.azure.com")],
)
def test_arm_refuses_without_a_token_of_its_own(lab: Any, token: str | None, audience: str) -> None:
    before = lab.last_seq()
    bearer = lab.token(audience) if token is None else token
    status, headers, body = lab.call("GET", f"{ARM}/subscriptions?api-version=1", token=bearer)
    assert status == 401
    assert "www-authenticate" in headers
    assert body["error"]["code"] in {"AuthenticationFailed", "InvalidAuthenticationToken"}
    # the instances' own key checks may stand beside it
    (row,) = [row for row in commands.log(lab.home, before) if not row["authorised"]]
    assert (row["status"], row["effect"]) == (401, None)


def test_the_hsm_answers_an_unauthenticated_request_with_its_challenge(lab: Any) -> None:
    url = "https://contoso--hsm.managedhsm.azure.net/backup?api-version=7.5"
    status, headers, body = lab.call("POST", url, token="")
    tenant = lab.status["tenant"]
    assert (status, body) == (401, b"")
    assert headers["www-authenticate"] == (
        f'Bearer authorization="https://login.microsoftonline.com/{tenant}", '
        'resource="https://managedhsm.azure.net"'
    )
    status, _, body = lab.call("GET", url.replace("backup", "keys"), token="")
    assert (status, body) == (401, b"OK")


def test_tokens_of_another_tenant_are_refused(lab: Any) -> None:
    foreign = mint_token(
        tenant="00000000-0000-0000-0000-000000000000",
        object_id=lab.status["object_id"],
        app_id="x",
        audience="https://management.azure.com",
        kind="operator",
        lifetime_seconds=60,
    )
    assert lab.call("GET", f"{ARM}/subscriptions?api-version=1", token=foreign)[0] == 401


def test_a_managed_identity_has_no_rights_in_resource_manager(lab: Any) -> None:
    token = mint_token(
        tenant=lab.status["tenant"],
        object_id=lab.status["identity"]["principal_id"],
        app_id="x",
        audience="https://management.azure.com",
        kind="identity",
        lifetime_seconds=60,
    )
    status, _, body = lab.call("GET", f"{ARM}/subscriptions?api-version=1", token=token)
    assert (status, body["error"]["code"]) == (403, "AuthorizationFailed")


def test_a_wrong_secret_is_refused_by_the_directory(lab: Any) -> None:
    found = lab.status
    wrong = ClientSecretCredential(
        found["tenant"], found["client_id"], "wrong", **lab.client_options
    )
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        wrong.get_token("https://management.azure.com/.default")


def test_no_secret_and_no_signature_is_in_the_call_log(lab: Any) -> None:
    sas = lab.status["storage"]["sas"]
    url = f"https://contoso-backups.blob.core.windows.net/hsm-backups?restype=container&comp=list&{sas}"
    assert lab.call("GET", url, token="")[0] == 200
    lab.credential().get_token("https://management.azure.com/.default")
    signature = sas.rpartition("sig=")[2]
    secret = commands.env(lab.home)["AZURE_CLIENT_SECRET"]
    text = json.dumps(commands.log(lab.home))
    assert "sig=REMOVED" in text
    assert signature not in text
    assert secret not in text


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_works_in_the_environment_of_the_lab(lab: Any) -> None:
    done = subprocess.run(
        ["curl", "-sS", "-i", "https://lab.drengine.invalid/clock"],
        env=commands.env(lab.home),
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert b"x-drengine-lab: 1" in done.stdout.lower()


def test_the_environment_inherits_nothing_of_azure(lab: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", "real-tenant")
    monkeypatch.setenv("AZURE_CLIENT_CERTIFICATE_PATH", "/real.pem")
    monkeypatch.setenv("NO_PROXY", "*")
    found = commands.env(lab.home)
    assert found["AZURE_TENANT_ID"] == lab.status["tenant"]
    assert "AZURE_CLIENT_CERTIFICATE_PATH" not in found
    assert not {"NO_PROXY", "no_proxy"} & set(found)
    assert found["HTTPS_PROXY"] == found["https_proxy"] == lab.status["proxy"]
    assert found["AZURE_CONFIG_DIR"].startswith(str(lab.home))


def test_the_signed_in_profile_gives_tokens_to_the_sdks(lab: Any) -> None:
    script = (
        "from azure.cli.core import get_default_cli\n"
        "from azure.cli.core._profile import Profile\n"
        "cred, sub, tenant = Profile(cli_ctx=get_default_cli()).get_login_credentials()\n"
        "from azure.mgmt.keyvault import KeyVaultManagementClient\n"
        "found = list(KeyVaultManagementClient(cred, sub).managed_hsms.list_by_subscription())\n"
        "print(sub, tenant, [one.name for one in found])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=commands.env(lab.home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    status = lab.status
    assert done.stdout.split()[:2] == [status["subscription"], status["tenant"]]
    assert "contoso--hsm" in done.stdout


def test_asynchronous_clients_work_by_keyword_arguments(lab: Any) -> None:
    env, options = commands.env(lab.home), lab.client_options

    async def names() -> list[str]:
        credential = AsyncClientSecretCredential(
            env["AZURE_TENANT_ID"],
            env["AZURE_CLIENT_ID"],
            env["AZURE_CLIENT_SECRET"],
            **options,
        )
        url = "https://contoso--hsm.managedhsm.azure.net"
        async with credential, KeyClient(url, credential, **options) as keys:
            return [key.name async for key in keys.list_properties_of_keys()]

    assert asyncio.run(names()) == ["app-wrap", "doc-sign", "sqlmi-tde", "sqlmi-tde-hr"]
