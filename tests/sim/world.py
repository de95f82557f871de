"""One simulated recovery: plan, process after process, people, and the verdict."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drengine.actions.registry import CATALOGUE, KIT
from drengine.engine.commands import Rest
from drengine.engine.driver import Outcome, drive
from drengine.engine.fold import fold
from drengine.engine.genesis import create_run
from drengine.engine.world import World
from drengine.journal.memory import MemoryDisk, MemoryStore
from drengine.model.canonical import digest, sha256_hex
from drengine.model.cloud import BlobItem, KeyVersion, RoleAssignment
from drengine.model.plan import CloudIdentity, Plan
from drengine.model.records import Record, RecordType, Signal
from drengine.model.run import RunState, StepStatus
from drengine.model.runbook import Runbook, RunClass
from drengine.model.secret import Secret
from drengine.runbook.loader import load_runbook
from drengine.runbook.planner import make_plan
from sim.cloud import EPOCH_MS, SUFFIX, SimCloud, x5t_of
from sim.fate import Crash, Fate
from sim.loop import VirtualClock, VirtualLoop

RUNBOOKS = Path(__file__).resolve().parents[2] / "runbooks"
ME = "00000000-0000-4000-8000-00000000000a"
WHERE = CloudIdentity("AzureCloud", "t", "s", ME, SUFFIX, "core.windows.net", lab=True)
FOLDER = "mhsm-source-2026111810120000"
MAX_PROCESSES = 40
USER, ADMIN = "21dbd100-6940-42c2-9190-5d6cb909625b", "a290e904-7015-4bba-90c8-60543313cdb4"


def source_keys() -> list[KeyVersion]:
    return [
        KeyVersion(
            name=name,
            version=f"{i:032x}",
            kid=f"https://source.{SUFFIX}/keys/{name}/{i:032x}",
            kty="oct-HSM",
            key_ops=("wrapKey", "unwrapKey"),
            enabled=True,
        )
        for i, name in enumerate(("alpha", "beta"))
    ]


def source_roles() -> list[RoleAssignment]:
    return [
        RoleAssignment("r1", "/", ADMIN, ME),
        RoleAssignment("r2", "/keys", USER, ME),
    ]


def inventory() -> bytes:
    secret = b"x" * 32
    return json.dumps(
        {
            "schema": "drengine/inventory/v1",
            "taken_at": "2026-11-18T10:00:00.000Z",
            "hsm": {"name": "source", "network": {}, "public_access": "Enabled"},
            "security_domain": None,
            "keys": [key.to_json() for key in source_keys()],
            "roles": [role.to_json() for role in source_roles()],
            "canaries": [
                {
                    "name": key.name,
                    "version": key.version,
                    "kind": "unwrap",
                    "algorithm": "A256KW",
                    "ciphertext": base64.urlsafe_b64encode(secret).rstrip(b"=").decode(),
                    "plaintext_sha256": sha256_hex(secret),
                }
                for key in source_keys()
            ],
            "instances": [],
        }
    ).encode()


def restore_blob(exchange: str) -> bytes:
    """Return bytes with the shape of a restore blob for that exchange key."""

    def part(header: dict[str, str], key: int, size: int) -> str:
        def b64(data: bytes) -> str:
            return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

        head = json.dumps(header, separators=(",", ":")).encode()
        return ".".join(
            (b64(head), b64(b"k" * key), b64(b"i" * 16), b64(b"c" * size), b64(b"t" * 32))
        )

    tags = ("hsm_backup", "base_enclave_backup", "partition_enclave_backup")
    direct = [
        {"compact_jwe": part({"alg": "dir", "enc": "A256CBC-HS512", "kid": t}, 0, 64), "tag": t}
        for t in tags
    ]
    wrapped = {"alg": "RSA-OAEP-256", "enc": "A256CBC-HS512", "kid": "not used"}
    return json.dumps(
        {
            "EncData": {"data": direct, "kdf": "sp108_kdf"},
            "WrappedKey": {"enc_key": part(wrapped, 512, 48), "x5t_256": exchange},
        }
    ).encode()


@functools.cache
def runbook_of(text: str) -> Runbook:
    return load_runbook(text, "runbook", CATALOGUE)


@functools.cache
def plan() -> Plan:
    """Return the plan that every simulated run starts from: a recovery without SQL."""
    listing = [[f"{FOLDER}/b", 10, "e"]]
    answers: dict[str, Any] = {
        "securitydomain.inspect": {"sha256": "0" * 64, "required": 2, "custodians": ["a", "b"]},
        "inventory.inspect": {"taken_at": "", "keys": 2, "security_domain": None},
        "backup.resolve": {
            "folder": FOLDER,
            "blobs": 1,
            "size": 10,
            "digest": digest(listing),
            "taken_at": "2026-11-18T10:12:00.000Z",
            "taken_at_ms": None,
            "newer": [],
        },
        "sqlmi.groups": [],
    }

    async def discover(source: str, values: Any) -> Any:
        del values
        return answers[source]

    def read_file(path: str) -> dict[str, Any]:
        data = inventory() if path == "inventory.json" else b"domain"
        return {"path": path, "sha256": sha256_hex(data), "size": len(data)}

    def load(name: str) -> Runbook:
        return runbook_of((RUNBOOKS / f"{name}.yaml").read_text())

    return asyncio.run(
        make_plan(
            runbook=load("mhsm-full-recovery"),
            given={
                "source_hsm": "source",
                "target_hsm": "target",
                "resource_group": "rg",
                "location": "northeurope",
                "inventory": "inventory.json",
                "sd_file": "domain.json",
                "container_url": "https://acct.blob.core.windows.net/backups",
                "storage_identity": "/subscriptions/00000000-0000-4000-8000-0000000000cc/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i",
                "protects_sql": False,
                "incident_at": "2026-11-18T11:00:00Z",
            },
            run_class=RunClass.DRILL,
            cloud=WHERE,
            created_at="2026-11-18T12:00:00.000Z",
            tool_version="0",
            load=load,
            discover=discover,
            read_file=read_file,
            allow_lab_names=False,
            catalogue=CATALOGUE,
        )
    )


class MortalStore(MemoryStore):
    """A memory store whose process can die at every append, before it and after it."""

    def __init__(self, disk: MemoryDisk, fate: Fate) -> None:
        super().__init__(disk)
        self._fate = fate

    def append(self, lease, expect, drafts):
        kind = drafts[0].type
        self._fate.point(f"append {kind}:before")
        records = super().append(lease, expect, drafts)
        self._fate.intents += kind in (RecordType.INTENT, RecordType.UNDO_INTENT)
        self._fate.point(f"append {kind}:after")
        return records

    def delete_signals(self, lease, ids):
        self._fate.point("delete signals")
        super().delete_signals(lease, ids)

    def release(self, lease):
        if not self._fate.dead:
            super().release(lease)


@contextmanager
def no_exchanges():
    yield []


@dataclass
class Story:
    """How one seed went."""

    seed: int
    fate: Fate
    cloud: SimCloud
    state: RunState
    processes: int
    rests: list[str] = field(default_factory=list)
    resolved: int = 0

    def count(self, name: str) -> int:
        return self.cloud.ledger.count(name)


def simulate(
    seed: int,
    fate: Fate | None = None,
    *,
    points: int = 420,
    roll_back_at: str = "",
    new_key_at_each_read: bool = False,
) -> Story:
    """Run one recovery by seed: processes die and are started again until it ends."""
    fate = fate or Fate.of(seed, points)
    disk, elapsed = MemoryDisk(), 0.0
    times = {"now": EPOCH_MS}
    cloud = SimCloud(fate, lambda: int(times["clock"].now_ms()), ME, source_keys(), source_roles())
    cloud.new_key_at_each_read = new_key_at_each_read
    cloud.folders[FOLDER] = [BlobItem(f"{FOLDER}/b", 10, "e")]
    run = plan().run_id
    rests: list[str] = []
    resolved = 0
    outcome: Outcome | None = None
    for process in range(MAX_PROCESSES):
        loop = VirtualLoop(elapsed)
        times["clock"] = VirtualClock(EPOCH_MS, loop)
        fate.dead = False
        store = MortalStore(disk, fate)
        store.put_object(inventory())
        world = _world(store, cloud, times["clock"])
        cloud.before_effect = functools.partial(_check_intent, fate, cloud)
        outcome = _one_process(loop, world, run)
        elapsed = loop.time() + 5.0
        store.crash()
        rests.append("crash" if outcome is None else str(outcome.rest))
        if outcome is not None:
            if outcome.rest in (Rest.DONE, Rest.ROLLED_BACK):
                return Story(seed, fate, cloud, outcome.state, process + 1, rests, resolved)
            resolved += _people(
                MemoryStore(disk), outcome.state, cloud, process, roll_back_at=roll_back_at
            )
    state = fold(MemoryStore(disk).read(run))
    return Story(seed, fate, cloud, state, MAX_PROCESSES, rests, resolved)


def _listen_to_nothing(state: RunState, record: Record) -> None:
    del state, record


def _world(store: MemoryStore, cloud: SimCloud, clock: VirtualClock) -> World:
    return World(
        plan=plan(),
        store=store,
        cloud=cloud,  # type: ignore[arg-type]
        clock=clock,
        kit=KIT,
        load=runbook_of,
        collect=no_exchanges,
        secret=Secret,
        owner="sim",
        listener=_listen_to_nothing,
        inbox_ms=600_000,
    )


def _one_process(loop: VirtualLoop, world: World, run: Any) -> Outcome | None:
    async def main() -> Outcome:
        part = plan().root
        runbook = runbook_of(part.runbook_text)
        create_run(
            world, run, runbook, part=part, inputs=part.inputs, initiator="operator:sim", tool={}
        )
        return await drive(world, run, asyncio.Event())

    task = loop.create_task(main())
    try:
        return loop.run_until_complete(task)
    except Crash:
        return None
    finally:
        for left in asyncio.all_tasks(loop):
            left.cancel()
        # Nothing of a dead process acts any more: every port raises, so this only unwinds.
        world.store._fate.dead = True  # type: ignore[attr-defined]
        pending = asyncio.all_tasks(loop)
        if pending:
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()


def _check_intent(fate: Fate, cloud: SimCloud, name: str) -> None:
    """INVARIANT J1: an effect never comes before its durable intent."""
    assert fate.intents > len(cloud.ledger), f"{name}: an effect without a durable intent"


def _people(
    store: MemoryStore, state: RunState, cloud: SimCloud, process: int, *, roll_back_at: str
) -> int:
    """Let the people do what the run waits for; return how many outcomes they resolved."""
    resolved = 0
    body: dict[str, Any]
    asked = state.steps.get(roll_back_at)
    if asked is not None and asked.status is StepStatus.AWAITING_APPROVAL:
        body = {"reason": "enough"}
        signal = Signal("rollback-1", state.run, "rollback", "operator:sim", body, EPOCH_MS)
        store.put_signal(signal)
        return 0
    for step in state.steps.values():
        body = {"step": step.id}
        kind = ""
        if step.status is StepStatus.AWAITING_APPROVAL and step.gate:
            kind, body["request_seq"], body["digest"] = "approve", step.gate.seq, step.gate.digest
        elif step.status is StepStatus.AWAITING_DELIVERY:
            blob = restore_blob(str(step.expects["exchange"]))
            kind, body["kind"], body["sha256"] = "deliver", "restore_blob", store.put_object(blob)
        elif step.status is StepStatus.UNKNOWN:
            # A person looks at the cloud itself.
            action = {"restore": "restore", "upload-domain": "upload", "create-hsm": "create"}
            name = action.get(step.id, "backup")
            kind, body["found"], body["reason"] = "resolve", name in cloud.ledger, "looked"
            resolved += 1
        if kind:
            signal = Signal(
                f"{kind}-{process}-{step.id}", state.run, kind, "approver:sim", body, EPOCH_MS
            )
            store.put_signal(signal)
    return resolved


__all__ = ["ME", "Story", "plan", "restore_blob", "simulate", "x5t_of"]
