"""Plain requests to the resource manager, through the session's authenticated pipeline.

For what needs no SDK: loading one takes longer than the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from azure.core.rest import HttpRequest

from drengine.azure.operations import Sender
from drengine.azure.pipeline import Pipeline


class ArmDocuments:
    """Reads documents of the resource manager.

    Parameters:
        resource_manager: returns the client for the resource manager.
    """

    def __init__(self, pipeline: Pipeline, resource_manager: Callable[[], Sender]) -> None:
        self._pipeline = pipeline
        self._resource_manager = resource_manager

    def url(self, path: str, version: str) -> str:
        """Return the URL of a path."""
        return f"{self._pipeline.endpoints.resource_manager}{path}?api-version={version}"

    async def one(self, what: str, path: str, version: str) -> dict[str, Any]:
        """Return a document that is there.

        Parameters:
            what: the words for messages, as in `Pipeline.read`.

        Raises:
            AzureError: the service refused, or could not be reached.
        """
        url = self.url(path, version)
        return await self._pipeline.read(what, lambda: self._asked(url))

    async def found(
        self, what: str, path: str, version: str, *, absent: Collection[str]
    ) -> dict[str, Any] | None:
        """Return a document, None where one of the codes `absent` says that it is not there.

        Raises:
            AzureError: the service refused, or could not be reached.
        """
        url = self.url(path, version)
        return await self._pipeline.find(what, lambda: self._asked(url), absent=absent)

    async def listed(self, what: str, path: str, version: str) -> list[dict[str, Any]]:
        """Return a list with all its pages.

        Raises:
            AzureError: the service refused, or a page is none.
        """

        async def pages() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            url = self.url(path, version)
            while url:
                page = await self._asked(url)
                if not isinstance(page.get("value"), list):
                    break  # no page: the pipeline says so
                found += page["value"]
                url = str(page.get("nextLink") or "")
            return found

        return await self._pipeline.read(what, pages, listing=True)

    async def _asked(self, url: str) -> dict[str, Any]:
        """Send one GET; the pipeline judges its status."""
        response = await self._resource_manager().send_request(HttpRequest("GET", url))
        found = response.json() if response.content else {}
        if not isinstance(found, dict):
            raise TypeError("the answer is not a JSON object")
        return found
