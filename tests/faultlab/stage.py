"""The lab that every trial copies: small, after its disaster, with the plan made."""

from __future__ import annotations

import base64
import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from drengine.drills.children import Engine
from drengine.drills.embedded import TARGET, DrillRequest, Watching, _Stage
from drengine.lab import commands
from drengine.lab.hsm.exchange import EXCHANGE_BITS
from drengine.lab.spec import EstateSpec, InstanceSpec, KeySpec
from drengine.model.ids import RunId, run_id_of
from drengine.runbook.plan_file import read_plan

AUTH = ("--auth", "environment")
SMALL = EstateSpec(
    keys=(KeySpec("sqlmi-tde"), KeySpec("doc-sign", kty="EC-HSM", crv="P-256")),
    groups=(),
    standalone=(InstanceSpec("sqlmi-c", "westeurope", ("hr",), "sqlmi-tde"),),
)

# Shorter operations mean fewer polls: every kind of point stays, only its repetitions go.
QUICK: dict[str, Any] = {
    "create_hsm": 60,
    "start_service": 30,
    "sd_upload": 15,
    "backup": 8,
    "restore": 12,
    "mi_protector": 25,
    "reevaluate": 20,
    "retry_after_ms": 15_000,
}


@dataclass(frozen=True)
class Stage:
    """A stopped lab home and what the people of a run need.

    Attributes:
        home: to be copied, never started.
        key: file with the exchange key of every trial.
    """

    folder: Path
    home: Path
    plan: Path
    key: Path
    status: dict[str, Any]
    run: RunId

    def copy(self, to: Path, settings: dict[str, Any]) -> None:
        """Make a home of one trial, with some of the lab's settings of its own."""
        shutil.copytree(self.home, to)
        if settings:
            file = to / "settings.json"
            found = json.loads(file.read_text()) if file.exists() else {}
            file.write_text(json.dumps({**found, **settings}))


class _DrillStage(_Stage):
    def prepare(self) -> None:
        engine, real = self._engine, self._engine.do

        def do(*arguments: str, seconds: float) -> None:
            real(*arguments, *AUTH, seconds=seconds)

        engine.do = do  # type: ignore[method-assign]
        super().prepare()

    def _inputs(self) -> str:
        lab = self._lab
        storage = lab["storage"]
        account = f"https://{storage['account']}.blob.core.windows.net"
        values = {
            "source_hsm": lab["source_hsm"]["name"],
            "target_hsm": TARGET,
            "resource_group": lab["resource_group"],
            "location": "northeurope",
            "inventory": str(self._inventory),
            "sd_file": lab["security_domain"]["file"],
            "container_url": f"{account}/{storage['container']}",
            "storage_identity": lab["identity"]["id"],
        }
        path = self._folder / "inputs.json"
        path.write_text(json.dumps(values), encoding="utf-8")
        return str(path)


def prepare(folder: Path, estate: EstateSpec = SMALL, **settings: Any) -> Stage:
    """Build the lab, take the inventory, lose the HSM, make the plan, stop."""
    folder.mkdir(parents=True, exist_ok=True)
    home, plan = folder / "lab", folder / "plan.json"
    status = commands.up(home, estate=estate, speed=1.0, settings=settings or None)
    try:
        watching = Watching(lambda _: None, lambda _: None)
        with closing(Engine(commands.env(home), folder / "engine.log")) as engine:
            stage = _DrillStage(DrillRequest(folder / "evidence"), watching, folder, status, engine)
            stage.prepare()
            engine.do(
                *("plan", "mhsm-full-recovery", "--class", "drill"),
                *("--inputs", stage._inputs(), "--out", str(plan)),
                seconds=60,
            )
        commands.set_clock(home, speed=1.0)
    finally:
        commands.down(home)
    key = folder / "exchange.key"
    key.write_bytes(base64.b64encode(_new_key()))
    (folder / "status.json").write_text(json.dumps(status))
    return Stage(folder, home, plan, key, dict(status), run_id_of(_digest(plan)))


def reopen(folder: Path) -> Stage:
    """Return a stage that was prepared before."""
    plan = folder / "plan.json"
    status = json.loads((folder / "status.json").read_text())
    run = run_id_of(_digest(plan))
    return Stage(folder, folder / "lab", plan, folder / "exchange.key", status, run)


def _digest(plan: Path) -> str:
    return read_plan(plan.read_bytes()).digest


def _new_key() -> bytes:
    return rsa.generate_private_key(65537, EXCHANGE_BITS).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
