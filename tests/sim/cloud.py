"""A cloud in memory behind `azure.ports`, with a ledger of what really took effect.

Every changing call passes two points where the process may die (before the effect and
after it) and may lose its answer, its request, or show its effect late. A request that has
left arrives, whatever becomes of its sender.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from drengine.actions.names import host_of
from drengine.errors import AzureError, UnknownOutcome
from drengine.model.cloud import (
    BlobItem,
    Operation,
    OperationKind,
    OperationState,
    OperationStatus,
)
from drengine.model.ids import RunId
from sim.fate import CURRENT, Crash, Fate
from sim.hsms import SUFFIX, SimArm, SimData, SimHsm
from sim.sql import SimSql
from sim.subscription import SimSubscription
from sim.trace import QUIET_MS, Changed, Request, Trace
from sim.watch import STEP_OF

EPOCH_MS = 1_795_000_000_000

Effect = Callable[[Request], Operation | None]


@dataclass
class Arrival:
    """A request on its way, and what the service answers."""

    due_ms: int
    request: Request
    effect: Effect
    answer: Operation | Exception | None = None


@dataclass
class SimCloud:
    """The cloud. `ledger` counts effects; tests judge by it, never by the journal."""

    fate: Fate
    clock: Callable[[], int]
    principal: str
    source_keys: list[Any]
    source_roles: list[Any]
    root: RunId
    trace: Trace = field(default_factory=Trace)
    hsms_by_name: dict[str, SimHsm] = field(default_factory=dict)
    folders: dict[str, list[BlobItem]] = field(default_factory=dict)
    folder_seen_ms: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, tuple[int, str]] = field(default_factory=dict)
    ledger: list[str] = field(default_factory=list)
    before_send: Callable[[Request], None] = lambda _: None
    in_flight: list[Arrival] = field(default_factory=list)
    alien: bool = False
    serial: int = 0
    new_key_at_each_read: bool = False
    arriving_ms: int | None = None

    def __post_init__(self) -> None:
        self.identity = None
        self.hsms = SimArm(self)
        self.subscription = SimSubscription(self)
        self.sql = SimSql(self)
        self.storage = SimStorage(self)
        self.rows = None
        self.operations = SimOperations(self)

    def now(self) -> int:
        """Return the true time; while a request takes effect, the moment at which it arrived."""
        return self.clock() if self.arriving_ms is None else self.arriving_ms

    def hsm(self, uri: str) -> SimData:
        return SimData(self, host_of(uri).partition(".")[0])

    def present(self, name: str) -> SimHsm:
        """Return an HSM that exists.

        Raises:
            AzureError: it does not.
        """
        hsm = self.hsms_by_name.get(name.lower())
        if hsm is None:
            raise AzureError(f"there is no HSM {name}", status=404)
        return hsm

    async def change(
        self, name: str, effect: Effect, place: tuple[RunId, str] | None = None
    ) -> Operation | None:
        """Perform one changing call under the seed's fate.

        Parameters:
            place: the run and step that sends; by default the root's step of that request.
        """
        fate = self.fate
        fate.point(f"{name}:before")
        if fate.happens(fate.refuse):
            raise AzureError(f"{name}: 429", status=429, transient=True)
        request = self._leaves(name, place)
        if fate.happens(fate.lose_request):
            request.lost = True
            raise UnknownOutcome(f"{name}: the connection broke")
        straggles = name in QUIET_MS and fate.happens(fate.straggle)
        due = self._straggles_until(request) if straggles else self.now() + fate.slow_ms
        arrival = Arrival(due, request, effect)
        self.in_flight.append(arrival)
        fate.sent(name)
        if straggles:
            raise UnknownOutcome(f"{name}: the connection broke, and the request goes on")
        if fate.slow_ms:
            await asyncio.sleep(fate.slow_ms / 1000)
        self.arrive(arrival.due_ms)
        fate.point(f"{name}:after")
        if fate.happens(fate.lose_answer):
            raise UnknownOutcome(f"{name}: the answer was lost")
        if isinstance(arrival.answer, Exception):
            raise arrival.answer
        return arrival.answer

    def _leaves(self, name: str, place: tuple[RunId, str] | None) -> Request:
        run, step = place or (self.root, STEP_OF.get(name, ""))
        at = len(self.trace.entries)
        request = Request(name, CURRENT.get().home, run, step, at, self.now())
        if name == "delete":
            request.open_others = self._harmed()
        self.before_send(request)
        self.trace.left(request)
        return request

    def _harmed(self) -> tuple[str, ...]:
        """Return what a delete of the target would meet: requests in the air, keys in use."""
        flying = [each.request.name for each in self.in_flight]
        return (*(f"{each} in the air" for each in flying if each != "delete"), *self.sql.linked())

    def _straggles_until(self, request: Request) -> int:
        now = self.now()
        return self.fate.rng.randint(now, max(now, self.trace.latest_ms(request)))

    def arrive(self, until_ms: int = 0) -> None:
        """Let every request take effect that has arrived by now."""
        now = max(self.now(), until_ms)
        arrived = [each for each in self.in_flight if each.due_ms <= now]
        if not arrived:
            return
        self.in_flight = [each for each in self.in_flight if each.due_ms > now]
        for each in sorted(arrived, key=lambda arrival: arrival.due_ms):
            self.arriving_ms = each.due_ms
            self._takes_effect(each)
        self.arriving_ms = None

    def _takes_effect(self, arrival: Arrival) -> None:
        request = arrival.request
        request.arrived_ms = self.now()
        try:
            arrival.answer = arrival.effect(request)
        except AzureError as refusal:
            arrival.answer, request.refused = refusal, True
            return
        if request.seen_ms is None:
            request.seen_ms = request.arrived_ms
        if request.name != "create":  # a PUT of what exists changes nothing: told apart there
            self.ledger.append(request.name)

    async def read(self, name: str) -> None:
        """Pass the point of one look, which may take a while."""
        process = CURRENT.get()
        self.fate.point(f"{name}:read")
        if seconds := self.fate.read_seconds():
            await asyncio.sleep(seconds)
            if process.dead:
                raise Crash
        self.arrive()

    def seen_from(self, request: Request) -> int:
        """Return from when on a request's effect can be seen: late, within its quiet period."""
        now = self.now()
        request.seen_ms = max(now, min(now + self.fate.late_ms, self.trace.latest_ms(request)))
        return request.seen_ms

    def job(
        self,
        request: Request,
        takes_ms: int,
        kind: OperationKind,
        result: str = "",
        resource: str = "",
    ) -> Operation:
        """Begin an operation that can be asked about."""
        job = self.next_id()
        request.done_ms = self.now() + takes_ms
        self.jobs[job] = (request.done_ms, result)
        return Operation(kind, f"https://jobs/{job}", job, resource)

    def deface(self) -> None:
        """Let somebody change the target's network rules by hand."""
        if (hsm := self.hsms_by_name.get("target")) is not None:
            other = {"bypass": "None", "defaultAction": "Deny"}
            usual = {"bypass": "AzureServices", "defaultAction": "Allow"}
            rules = usual if hsm.new.network == other else other
            hsm.new = replace(hsm.new, network=rules)
            self.note_network(hsm)

    def note_network(self, hsm: SimHsm) -> None:
        """Take note of the network rules that the target has from now on."""
        self.trace.entries.append(Changed(self.now(), str(hsm.new.network.get("bypass", ""))))

    def next_id(self) -> str:
        self.serial += 1
        return f"{self.serial:032x}"


class SimStorage:
    """The container of the backups."""

    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud

    async def list_blobs(self, target: Any, prefix: str) -> list[BlobItem]:
        del target
        await self._cloud.read("list_blobs")
        return [
            b
            for f, blobs in sorted(self._seen().items())
            for b in blobs
            if b.name.startswith(prefix)
        ]

    async def list_folders(self, target: Any, prefix: str) -> list[str]:
        del target
        await self._cloud.read("list_folders")
        return sorted(f for f in self._seen() if f.startswith(prefix))

    def _seen(self) -> dict[str, list[BlobItem]]:
        now = self._cloud.now()
        seen_ms = self._cloud.folder_seen_ms
        return {f: b for f, b in self._cloud.folders.items() if now >= seen_ms.get(f, 0)}


class SimOperations:
    """Where an operation stands."""

    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud

    async def poll(self, operation: Operation) -> OperationStatus:
        await self._cloud.read("poll")
        done_ms, result = self._cloud.jobs[operation.job]
        if self._cloud.now() < done_ms:
            return OperationStatus(OperationState.RUNNING)
        return OperationStatus(OperationState.SUCCEEDED, result=result)


__all__ = ["EPOCH_MS", "SUFFIX", "SimCloud"]
