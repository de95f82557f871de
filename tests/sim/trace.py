"""What happened, in one order: every record that became durable, every request that left.

The cloud notes what became of a request, the stores what is in the chains; the verdict
compares the two. The engine never sees any of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from drengine.actions.registry import CATALOGUE
from drengine.model.ids import RunId
from drengine.model.records import Record
from drengine.model.records import RecordType as R

ACTION_OF = {
    "create": "hsm.create",
    "upload": "securitydomain.upload",
    "role": "hsm.grant_self",
    "backup": "hsm.backup",
    "check": "hsm.restore_check",
    "restore": "hsm.restore",
    "update": "hsm.configure_network",
    "grant": "hsm.grant_identities",
    "link": "sql.link_keys",
    "ask": "sql.validate",
    "switch": "sql.set_protector",
    "reevaluate": "sql.reevaluate",
}
QUIET_MS = {name: CATALOGUE.actions[action].quiet_ms for name, action in ACTION_OF.items()}
"""How long a request's effect may stay unseen after its intent, by the request's name."""

JUST_UNDER_MS = 1_000


@dataclass(slots=True)
class Request:
    """One changing request.

    Attributes:
        lost: whether it never arrives.
        arrived_ms: when it reached the service, None while it travels; `refused`: in vain.
        seen_ms: from when on anybody can see its effect; None where it has none.
        done_ms: until when the service works on it.
        open_others: at a delete: what else was in the air or has a key of the target in use.
    """

    name: str
    home: str
    run: RunId
    step: str
    at: int
    sent_ms: int
    lost: bool = False
    arrived_ms: int | None = None
    refused: bool = False
    seen_ms: int | None = None
    done_ms: int = 0
    open_others: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, str, str]:
        return self.home, self.run, self.step

    @property
    def took_effect(self) -> bool:
        return self.arrived_ms is not None and not self.refused

    def works(self, now_ms: int) -> bool:
        """Whether it travelled at that time, or the service was at work on it."""
        if self.lost or now_ms < self.sent_ms:
            return False
        return self.arrived_ms is None or now_ms < max(self.arrived_ms, self.done_ms)

    def can_be_seen(self, now_ms: int) -> bool:
        return self.seen_ms is not None and self.seen_ms <= now_ms


@dataclass(frozen=True, slots=True)
class Written:
    """One record that is durable; `process` wrote it."""

    home: str
    record: Record
    true_ms: int
    process: str

    @property
    def place(self) -> tuple[str, str, str]:
        return self.home, self.record.run, str(self.record.body.get("step", ""))


@dataclass(frozen=True, slots=True)
class Changed:
    """The target's network rules changed, by hand or by a request."""

    true_ms: int
    bypass: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A process was asked to end, as by SIGTERM."""

    true_ms: int
    process: str


Entry = Written | Request | Changed | Asked


@dataclass
class Trace:
    """Everything in order; `intents`: the true time of each step's last intent."""

    entries: list[Entry] = field(default_factory=list)
    intents: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def wrote(self, home: str, record: Record, true_ms: int, process: str) -> None:
        written = Written(home, record, true_ms, process)
        self.entries.append(written)
        if record.type is R.INTENT:
            self.intents[written.place] = true_ms

    def left(self, request: Request) -> None:
        self.entries.append(request)

    def requests(self, *names: str) -> list[Request]:
        """Return the requests of these names, all where none is given, in order."""
        found = [each for each in self.entries if isinstance(each, Request)]
        return [each for each in found if not names or each.name in names]

    def latest_ms(self, request: Request) -> int:
        """Return until when a request may take effect and the engine must reckon with it."""
        since = self.intents.get(request.place, request.sent_ms)
        return since + QUIET_MS.get(request.name, 60_000) - JUST_UNDER_MS
