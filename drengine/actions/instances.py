"""Reading managed instances that may come and go while they are listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from drengine.azure.ports import Cloud
from drengine.errors import AzureError
from drengine.model.cloud import InstanceKey

_NOT_FOUND: Final = 404


async def keys_if_there(cloud: Cloud, instance: str) -> Sequence[InstanceKey] | None:
    """Return the key rows of a listed instance, None where the service says that it is not there.

    One that is being created or deleted is listed and cannot be read: it uses no key.

    Raises:
        AzureError: it cannot be read for another reason, which may hide that it uses a key.
    """
    try:
        return await cloud.sql.keys(instance)
    except AzureError as error:
        if error.status == _NOT_FOUND and error.service_code:
            return None
        raise
