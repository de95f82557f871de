"""Names and URIs of HSMs and keys, and the key-row names of SQL Managed Instance."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from drengine.errors import InputError

_USER_IDENTITY: Final = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/[^/]+/providers"
    r"/Microsoft\.ManagedIdentity/userAssignedIdentities/[^/]+",
    re.IGNORECASE,
)


def subscription_of_identity(resource_id: str) -> str | None:
    """Return the subscription in the id of a user-assigned identity, None for another id."""
    found = _USER_IDENTITY.fullmatch(resource_id)
    return found[1].lower() if found else None


def hsm_uri(name: str, suffix: str) -> str:
    """Return the data-plane URI of an HSM, with its trailing slash."""
    return f"https://{name.lower()}.{suffix}/"


def host_of(uri: str) -> str:
    """Return the host of a URI in lower case, empty where it has none."""
    return (urlsplit(uri).hostname or "").lower()


def key_parts(kid: str) -> tuple[str, str]:
    """Return name and version of a key identifier.

    Raises:
        InputError: `kid` is no versioned key identifier.
    """
    parts = urlsplit(kid).path.strip("/").split("/")
    if len(parts) != 3 or parts[0] != "keys":  # noqa: PLR2004 - keys/NAME/VERSION
        raise InputError(
            f"{kid!r} is not a versioned key identifier",
            hint="https://HSM.managedhsm.azure.net/keys/NAME/VERSION",
        )
    return parts[1], parts[2]


def kid_on(kid: str, target_host: str) -> str:
    """Return the same key version on another HSM: a full restore keeps name and version."""
    name, version = key_parts(kid)
    return f"https://{target_host}/keys/{name}/{version}"


def instance_key_name(kid: str) -> str:
    """Return the name of a key's row on an instance: `<first DNS label>_<key>_<version>`.

    Source: azure-cli `_get_server_key_name_from_uri`; sqlmi-protocol §1.3.
    """
    name, version = key_parts(kid)
    return f"{host_of(kid).split('.')[0]}_{name}_{version}"


def is_regional(host: str, suffix: str) -> bool:
    """Whether a host is a region's own (`region.NAME.suffix`); only global names are used."""
    return host.removesuffix(f".{suffix}").count(".") > 0
