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


def is_host_of_hsm(host: str, name: str, suffix: str) -> bool:
    """Whether a host is an HSM's: its global name, or that of one of its regions.

    Source: `az sql mi tde-key set --help`, which names a key by REGION.HSM.managedhsm.azure.net.
    """
    own = f"{name.lower()}.{suffix}"
    return host == own or host.endswith(f".{own}")


def key_parts(kid: str) -> tuple[str, str]:
    """Return name and version of a key identifier; the version is empty where it has none.

    Raises:
        InputError: `kid` is no key identifier.
    """
    parts = urlsplit(kid).path.strip("/").split("/")
    if len(parts) not in (2, 3) or parts[0] != "keys" or not all(parts):
        raise InputError(
            f"{kid!r} is not a key identifier",
            hint="https://HSM.managedhsm.azure.net/keys/NAME/VERSION",
        )
    return parts[1], "".join(parts[2:])


def kid_on(kid: str, target_host: str) -> str:
    """Return the same key on another HSM: a full restore keeps name and version."""
    return f"https://{target_host}/keys/{'/'.join(filter(None, key_parts(kid)))}"


def instance_key_name(kid: str) -> str:
    """Return the name of a key's row on an instance: `<first DNS label>_<key>[_<version>]`.

    Source: azure-cli `_get_server_key_name_from_uri`; sqlmi-protocol §1.3.
    """
    return "_".join(filter(None, (host_of(kid).split(".")[0], *key_parts(kid))))
