"""Names and addresses: resource ids, key URIs, the name of a linked key, time texts.

Pure text in, text out; nothing here reads the store or the clock.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from drengine.lab.places import region_name

ARM: Final = "https://management.azure.com"
PROVIDER: Final = "/providers/Microsoft.Sql"

_KEY_URI: Final = re.compile(
    r"https://(?P<host>(?P<label>[a-zA-Z0-9][a-zA-Z0-9-]*)(?:\.[a-zA-Z0-9-]+)*?"
    r"\.(?:managedhsm|vault)\.azure\.net)(?::443)?"
    r"/keys/(?P<name>[0-9a-zA-Z-]{1,127})(?:/(?P<version>[0-9a-zA-Z]+)?)?"
)


@dataclass(frozen=True, slots=True)
class KeyUri:
    """A key identifier, taken apart."""

    host: str
    label: str
    """The first label of the host name; the linked key's name begins with it."""
    name: str
    version: str
    """Empty for an identifier without a version."""

    @property
    def server_key_name(self) -> str:
        """The name that an instance gives to this key when it is linked."""
        parts = [self.label, self.name, *([self.version] if self.version else [])]
        return "_".join(parts)

    @property
    def url(self) -> str:
        """The identifier without port and trailing slash."""
        tail = f"/{self.version}" if self.version else ""
        return f"https://{self.host}/keys/{self.name}{tail}"


def parse_key_uri(text: str) -> KeyUri | None:
    """Return the parts of a key identifier, None when it is not one of a vault or HSM."""
    found = _KEY_URI.fullmatch(text)
    if found is None:
        return None
    return KeyUri(found["host"].lower(), found["label"], found["name"], found["version"] or "")


@dataclass(frozen=True, slots=True)
class Place:
    """A subscription and resource group."""

    subscription: str
    resource_group: str

    @property
    def path(self) -> str:
        """The resource group's id."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"

    def instance_id(self, name: str) -> str:
        """Return the resource id of a managed instance."""
        return f"{self.path}{PROVIDER}/managedInstances/{name}"

    def group_id(self, location: str, name: str) -> str:
        """Return the resource id of a failover group, with the region's display name."""
        shown = region_name(location)
        return f"{self.path}{PROVIDER}/locations/{shown}/instanceFailoverGroups/{name}"


def place_of(resource_id: str) -> Place:
    """Return the subscription and resource group of a resource id."""
    parts = resource_id.split("/")
    return Place(parts[2], parts[4])


def principal_of(subscription: str, instance: str) -> str:
    """Return the object id of an instance's system-assigned identity.

    It follows from the names, so that role assignments can be made before the instance.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{subscription}/mi/{instance}".lower()))


def dns_zone_of(subscription: str, location: str) -> str:
    """Return the twelve-digit zone under which a region's instances are named."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"{subscription}/{location}".lower()).hex[:12]


def time_text(at_ms: int) -> str:
    """Return epoch milliseconds in Azure's form, without trailing zeros."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{at_ms % 1000:03d}".rstrip("0").rstrip(".")
    return f"{moment}{fraction}Z"
