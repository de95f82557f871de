"""Signs the lab's operator in: `python -m drengine.lab.signin`, in the lab's environment.

It writes the same profile as `az login --service-principal`, through the library that
the Azure command line is made of, so that no command line needs to be installed. It does
nothing outside a lab: the environment must name one.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def sign_in() -> None:
    """Write the operator's profile into AZURE_CONFIG_DIR.

    The token is really fetched. The subscription is written as known, because the library
    lists subscriptions only where another, larger package is installed.

    Raises:
        KeyError: this is not the environment of a lab.
    """
    from azure.cli.core import _profile, get_default_cli  # noqa: PLC0415 - heavy

    home, config = os.environ["DRENGINE_LAB"], os.environ["AZURE_CONFIG_DIR"]
    if not config.startswith(home):
        raise KeyError("AZURE_CONFIG_DIR is not inside the lab home")
    client, tenant = os.environ["AZURE_CLIENT_ID"], os.environ["AZURE_TENANT_ID"]
    context = get_default_cli()
    profile = _profile.Profile(cli_ctx=context)
    identity = _profile._create_identity_instance(  # noqa: SLF001 - the only way in
        context, context.cloud.endpoints.active_directory, tenant_id=tenant
    )
    secret = {"client_secret": os.environ["AZURE_CLIENT_SECRET"]}
    scope = context.cloud.endpoints.active_directory_resource_id.rstrip("/") + "//.default"
    identity.login_with_service_principal(client, secret, scopes=[scope])
    profile._set_subscriptions([_account(client, tenant)])  # noqa: SLF001 - the only way in


def _account(client: str, tenant: str) -> dict[str, Any]:
    return {
        "id": os.environ["AZURE_SUBSCRIPTION_ID"],
        "name": "drengine lab",
        "state": "Enabled",
        "user": {"name": client, "type": "servicePrincipal"},
        "isDefault": False,
        "tenantId": tenant,
        "environmentName": "AzureCloud",
        "homeTenantId": tenant,
        "managedByTenants": [],
    }


if __name__ == "__main__":
    sign_in()
    sys.exit(0)
