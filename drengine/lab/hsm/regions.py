"""A HSM in more than one region: who answers, what it knows yet, and outages.

The global name is answered by the region that is nearest to the caller and up; a regional
name (`uksouth.NAME.managedhsm.azure.net`) by its region only. Keys and role assignments
written in one region are known to the others after the replication lag; until then those
see what was there before. Security domain, settings and the phase of a HSM have no lag.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from drengine.lab.store import Tx

if TYPE_CHECKING:
    from drengine.lab.settings import Settings

OUTAGE: Final = "lab.outage"
"""By region: when it was lost."""
LAG: Final = "hsm.lag"
"""By kind and key of a document: the region that wrote it and what was there before."""
REPLICATED: Final = frozenset({"hsm.key", "hsm.deletedkey", "hsm.role", "hsm.roledefinition"})
_ZONE: Final = ".managedhsm.azure.net"


def split_host(host: str) -> tuple[str, str]:
    """Return the HSM's name and the region of a host name, empty for the global name."""
    region, _, name = host.removesuffix(_ZONE).rpartition(".")
    return name, region


def is_down(tx: Tx, region: str) -> bool:
    """Return whether a region is lost at the moment."""
    return tx.get(OUTAGE, region.replace(" ", "").lower()) is not None


def regions_of(hsm: dict[str, Any]) -> list[str]:
    """Return the regions of a HSM, the primary first."""
    return [hsm["location"], *hsm.get("regions", ())]


def serving_region(tx: Tx, host: str, caller_region: str = "") -> str | None:
    """Return the region that answers a host name, None where none can.

    A HSM that does not exist is answered by nobody in particular: an empty string.
    """
    name, wanted = split_host(host)
    hsm = tx.get("hsm", name)
    if hsm is None:
        return "" if not wanted else None
    candidates = regions_of(hsm)
    if wanted:
        candidates = [one for one in candidates if one == wanted]
    elif caller_region in candidates:
        candidates = [caller_region, *(one for one in candidates if one != caller_region)]
    up = [one for one in candidates if not is_down(tx, one)]
    return up[0] if up else None


def writing_region(tx: Tx, hsm: dict[str, Any]) -> str:
    """Return the region in which a HSM's own jobs write: the first that is up."""
    up = [one for one in regions_of(hsm) if not is_down(tx, one)]
    return str(up[0] if up else hsm["location"])


class RegionTx(Tx):
    """A transaction as one region sees it: what others wrote arrives after the lag.

    Parameters:
        inner: the transaction that it stands for.
        region: the region that answers.
        lag_ms: the replication lag.
    """

    def __init__(self, inner: Tx, region: str, lag_ms: int) -> None:
        super().__init__(inner._sql, inner.now_ms)  # noqa: SLF001 - the same connection
        self._inner = inner
        self._region = region
        self._lag_ms = lag_ms

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return the document as this region knows it."""
        if kind in REPLICATED:
            early = self._early(self._inner.get(LAG, f"{kind} {key}"))
            if early is not None:
                before: dict[str, Any] | None = early["before"]
                return before
        return self._inner.get(kind, key)

    def put(self, kind: str, key: str, doc: dict[str, Any]) -> None:
        """Write the document here, and note what the other regions still see."""
        self._note(kind, key)
        self._inner.put(kind, key, doc)

    def delete(self, kind: str, key: str) -> bool:
        """Remove the document here, and note what the other regions still see."""
        self._note(kind, key)
        return self._inner.delete(kind, key)

    def find(
        self, kind: str, prefix: str = "", *, after: str = "", limit: int = -1
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the documents as this region knows them, ordered by key."""
        late = self._late(kind, prefix) if kind in REPLICATED else {}
        if not late:
            yield from self._inner.find(kind, prefix, after=after, limit=limit)
            return
        known = {**dict(self._inner.find(kind, prefix)), **late}
        shown = [(key, doc) for key, doc in sorted(known.items()) if doc is not None]
        found = [(key, doc) for key, doc in shown if key > after]
        yield from found if limit < 0 else found[:limit]

    def schedule(self, job: str, payload: dict[str, Any], due_ms: int) -> int:
        """Have the job run; it is not a matter of regions."""
        return self._inner.schedule(job, payload, due_ms)

    def _late(self, kind: str, prefix: str) -> dict[str, dict[str, Any] | None]:
        start = f"{kind} "
        return {
            key.removeprefix(start): early["before"]
            for key, note in self._inner.find(LAG, f"{start}{prefix}")
            if (early := self._early(note)) is not None
        }

    def _early(self, note: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return what was there before the first write that has not arrived yet."""
        if note is None or note["region"] == self._region:
            return None
        arrived = self.now_ms - self._lag_ms
        return next((one for one in note["history"] if one["at_ms"] > arrived), None)

    def _note(self, kind: str, key: str) -> None:
        if kind not in REPLICATED:
            return
        place = f"{kind} {key}"
        note = self._inner.get(LAG, place) or {"history": []}
        arrived = self.now_ms - self._lag_ms
        recent = [one for one in note["history"] if one["at_ms"] > arrived]
        recent.append({"at_ms": self.now_ms, "before": self._inner.get(kind, key)})
        self._inner.put(LAG, place, {"region": self._region, "history": recent})


def seen_from(tx: Tx, hsm: dict[str, Any], region: str, settings: Settings) -> Tx:
    """Return the transaction as a region of a HSM sees it."""
    if not hsm.get("regions"):
        return tx
    return RegionTx(tx, region, int(settings.replication_lag * 1000))
