"""The clouds of Azure, and which hosts of one a session may talk to.

A bearer token goes only to a host that `Endpoints.allows`. A status URL or a next link
on any other host is refused before a connection is made: that is how a token would leak.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The host names of one cloud.

    Attributes:
        name: as `az cloud list` has it.
        resource_manager, authority: URLs without a trailing slash.
        hsm_suffix: DNS suffix of Managed HSMs, without a leading dot.
        storage_suffix: DNS suffix of storage, without `blob.`.
        sql_suffix: DNS suffix of SQL servers, without a leading dot.
    """

    name: str = "AzureCloud"
    resource_manager: str = "https://management.azure.com"
    authority: str = "https://login.microsoftonline.com"
    hsm_suffix: str = "managedhsm.azure.net"
    storage_suffix: str = "core.windows.net"
    sql_suffix: str = "database.windows.net"

    @property
    def resource_manager_host(self) -> str:
        """The resource manager's host, with its port where it is not 443."""
        return host_of(self.resource_manager)

    @property
    def resource_manager_scope(self) -> str:
        """The scope of tokens for the resource manager."""
        return f"{self.resource_manager}/.default"

    def is_hsm(self, host: str) -> bool:
        """Tell whether `host` is a Managed HSM of this cloud."""
        return host.endswith(f".{self.hsm_suffix}")

    def allows(self, host: str) -> bool:
        """Tell whether this session may talk to `host` at all."""
        return (
            host in (self.resource_manager_host, host_of(self.authority))
            or self.is_hsm(host)
            or host.endswith((f".blob.{self.storage_suffix}", f".{self.sql_suffix}"))
        )


def host_of(url: str) -> str:
    """Return the host of `url` in lower case, with its port where it is not 443."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return host if parts.port in (None, 443) else f"{host}:{parts.port}"


CLOUDS: Final = MappingProxyType(
    {
        cloud.name: cloud
        for cloud in (
            Endpoints(),
            Endpoints(
                "AzureChinaCloud",
                "https://management.chinacloudapi.cn",
                "https://login.chinacloudapi.cn",
                "managedhsm.azure.cn",
                "core.chinacloudapi.cn",
                "database.chinacloudapi.cn",
            ),
            Endpoints(
                "AzureUSGovernment",
                "https://management.usgovcloudapi.net",
                "https://login.microsoftonline.us",
                "managedhsm.usgovcloudapi.net",
                "core.usgovcloudapi.net",
                "database.usgovcloudapi.net",
            ),
        )
    }
)
"""The public clouds whose names are fixed, by name."""


def cloud_of_authority(authority: str) -> Endpoints | None:
    """Return the cloud whose sign-in host is that of `authority` (a host or a URL)."""
    url = authority if "://" in authority else f"https://{authority}"
    found = [cloud for cloud in CLOUDS.values() if host_of(cloud.authority) == host_of(url)]
    return found[0] if found else None
