"""Reading a known row through the database engine itself.

Only a lab has a way to do this over HTTPS. Against real instances the answer is None:
drengine holds no database login and speaks no TDS, so that whether rows can be read is
left to the owner of the database (the runbook asks for their word at a gate). What the
resource manager says about a database (`Online`) is checked elsewhere.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from azure.core import AsyncPipelineClient
from azure.core.rest import AsyncHttpResponse, HttpRequest

from drengine.azure.pipeline import Pipeline
from drengine.errors import AzureError


class LabRows:
    """`ports.DatabaseRows` of a session; reads rows in a lab only."""

    def __init__(self, pipeline: Pipeline, *, lab: bool) -> None:
        self._pipeline = pipeline
        self._lab = lab

    async def canary(self, fqdn: str, database: str) -> str | None:
        """Return a digest of the canary rows; None where this session has no way to read rows.

        Raises:
            AzureError: the database refused.
        """
        if not self._lab:
            return None
        what = f"reading the canary rows of {database} at {fqdn}"
        url = f"https://{fqdn}/databases/{quote(database, safe='')}/canary"
        # without a token: the lab's databases take none, and a real one must never get ours
        client: AsyncPipelineClient[HttpRequest, AsyncHttpResponse] = AsyncPipelineClient(
            f"https://{fqdn}", policies=[], transport=self._pipeline.transport
        )
        response = await self._pipeline.read(
            what, lambda: client.send_request(HttpRequest("GET", url)), again=False
        )
        found = response.json()
        if not isinstance(found, dict) or not found.get(_DIGEST):
            raise AzureError(f"{what}: the answer carries no digest")
        return str(found[_DIGEST])


_DIGEST: Final = "sha256"
