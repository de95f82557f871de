"""The asynchronous Python SDKs, unmodified, with nothing but keyword arguments."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity.aio import ClientSecretCredential
from azure.keyvault.administration import KeyVaultRoleScope, KeyVaultSetting, KeyVaultSettingType
from azure.keyvault.administration.aio import (
    KeyVaultAccessControlClient,
    KeyVaultBackupClient,
    KeyVaultSettingsClient,
)
from azure.keyvault.securitydomain.aio import SecurityDomainClient
from azure.mgmt.keyvault.aio import KeyVaultManagementClient

from drengine.lab import commands

URL = "https://contoso--hsm.managedhsm.azure.net"
CRYPTO_USER = "21dbd100-6940-42c2-9190-5d6cb909625b"
SOMEBODY = "0c0ffee0-0000-4000-8000-000000000001"


@contextlib.asynccontextmanager
async def signed_in(lab: Any) -> AsyncIterator[Any]:
    env = commands.env(lab.home)
    words = (env["AZURE_TENANT_ID"], env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_SECRET"])
    async with ClientSecretCredential(*words, **lab.client_options) as credential:
        yield credential


async def test_a_backup_is_taken_checked_and_restored(lab: Any) -> None:
    storage = lab.status["storage"]
    container = f"https://{storage['account']}.blob.core.windows.net/{storage['container']}"
    async with (
        signed_in(lab) as credential,
        KeyVaultBackupClient(URL, credential, **lab.client_options) as client,
    ):
        poller = await client.begin_backup(container, sas_token=storage["sas"])
        folder = (await poller.result()).folder_url
        assert "/mhsm-contoso--hsm-" in folder
        check = await client.begin_pre_restore(folder, sas_token=storage["sas"])
        await check.wait()
        await (await client.begin_restore(folder, sas_token=storage["sas"])).wait()
        await (
            await client.begin_restore(folder, sas_token=storage["sas"], key_name="app-wrap")
        ).wait()
        wrong = await client.begin_backup(container, sas_token="sv=1&sig=x")
        with pytest.raises(HttpResponseError):
            await wrong.result()


async def test_roles_and_settings_are_read_and_changed(lab: Any) -> None:
    async with (
        signed_in(lab) as credential,
        KeyVaultAccessControlClient(URL, credential, **lab.client_options) as roles,
        KeyVaultSettingsClient(URL, credential, **lab.client_options) as settings,
    ):
        scope = KeyVaultRoleScope.KEYS
        found = {one.name: one async for one in roles.list_role_definitions(scope)}
        made = await roles.create_role_assignment(scope, found[CRYPTO_USER].id, SOMEBODY)
        assert made.properties.principal_id == SOMEBODY
        names = {one.name async for one in roles.list_role_assignments(scope)}
        assert made.name in names
        await roles.delete_role_assignment(scope, made.name)
        name = "AllowKeyManagementOperationsThroughARM"
        wanted = KeyVaultSetting(name=name, value="true", setting_type=KeyVaultSettingType.BOOLEAN)
        assert (await settings.update_setting(wanted)).value == "true"
        assert [one.name async for one in settings.list_settings()] == [name]


async def test_a_hsm_is_listed_and_the_domain_is_downloaded(lab: Any) -> None:
    status = lab.status
    async with (
        signed_in(lab) as credential,
        KeyVaultManagementClient(credential, status["subscription"], **lab.client_options) as arm,
        SecurityDomainClient(URL, credential, **lab.client_options) as domain,
    ):
        assert [one.name async for one in arm.managed_hsms.list_by_subscription()] == [
            "contoso--hsm"
        ]
        shown = await arm.managed_hsms.get(status["resource_group"], "contoso--hsm")
        assert shown.properties.provisioning_state == "Succeeded"
        wanted = {"certificates": lab_certificates(status), "required": 2}
        poller = await domain.begin_download(wanted, polling_interval=0.05)
        found = json.loads((await poller.result()).value)
        assert found["SharedKeys"]["required"] == 2
        assert (await domain.get_download_status()).status in {"Success", "Succeeded"}


def lab_certificates(status: dict[str, Any]) -> list[dict[str, Any]]:
    import base64
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    found = []
    for file in status["security_domain"]["certificates"]:
        der = x509.load_pem_x509_certificate(Path(file).read_bytes()).public_bytes(Encoding.DER)
        x5c = [base64.b64encode(der).decode()]
        found.append({"kty": "RSA", "key_ops": ["wrapKey"], "alg": "RSA-OAEP-256", "x5c": x5c})
    return found
