"""The official procedure twice, on twin estates: `python tests/benchmarks/side_by_side.py`.

By az: the ten commands of Microsoft's disaster-recovery page (create, init-recovery,
restore-blob, upload, the storage account's key, the container, two tokens, backup, restore),
then `sql mi key create` and `sql mi tde-key set` for each instance, secondary first; each
command a process, as a script runs them. By drengine: `drengine run` of the shipped runbook,
from a plan made before; its custodians open their keys in a process of their own, its
approvers are played and answer as soon as they are asked. In turn, so that a busy machine
slows both; a lab of its own for every turn.

Time. az cannot follow a virtual clock: it sleeps in real seconds. So the lab's clock is the
real one for both, and the lab's durations are the recorded ones divided by 600, the factor of
the fast profile (a HSM takes 1.5 s to create, a protector 0.2 s to change). Both then live in
the same time, and a poll every two seconds is one every two real seconds.

- `fast`: the lab sends `retry-after-ms: 40`, which both obey. What is compared is the work
  around the waiting: processes, requests, durable records.
- `plain`: no hints, as Azure's recorded answers have none. az then asks every 5 s (backup,
  restore) or 30 s (everything else); drengine every 2 s in an operation's first minute and
  every 10 s later. With operations this short nearly all of the difference is az's waiting.
  With real durations (a HSM takes a quarter of an hour) the ratio is nearer to one; `--divide`
  shows that.

More checks: drengine also proves keys, roles and databases, and ends with the databases
Online; by az they are left as they are. Without azure-cli nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ceremony_bench import az_command
from reporting import Figure, show

from drengine.cli.family import Follower
from drengine.drills.cast import engage
from drengine.drills.people import PlayedPeople
from drengine.journal.sqlite import SqliteStore
from drengine.lab import commands
from drengine.lab.settings import Settings
from drengine.model.ids import run_id_of

TARGET: Final = "contoso--hsm-new"
ROOT: Final = Path(__file__).parents[2]
DRENGINE: Final = (sys.executable, "-m", "drengine")
DIVIDE: Final = 600.0
HINT_MS: Final = 40
GOALS: Final = {"fast": 1 / 3, "plain": 1 / 5}
KIND: Final = {"fast": HINT_MS / 1000, "plain": 2.0}
"""Seconds between two looks at one operation: what the lab asks for, or the first minute's."""
ROUNDS: Final = {"fast": 3, "plain": 1}
LOOK_SECONDS: Final = 0.02
LONGEST_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What one recovery took."""

    seconds: float
    requests: int
    processor_seconds: float
    closest_look: float
    """The fewest seconds between two looks at the same operation."""


def children_seconds() -> float:
    """Return the processor seconds of this process's ended children; no lab is among them."""
    spent = os.times()
    return spent.children_user + spent.children_system


STATUS: Final = re.compile(r"/pending$|operation(results|status|s)?/", re.IGNORECASE)


def closest_look(rows: list[dict[str, Any]]) -> float:
    """Return the fewest seconds between two looks at one operation; these are all young."""
    asked: dict[str, list[int]] = {}
    for row in rows:
        if row["method"] == "GET" and row["status"] < 300 and STATUS.search(row["path"]):
            asked.setdefault(row["host"] + row["path"], []).append(row["wall_ms"])
    gaps = [after - before for times in asked.values() for before, after in pairwise(times)]
    return min(gaps, default=0) / 1000


def settings(profile: str, divide: float) -> dict[str, Any]:
    """Return the lab's settings: every duration divided, and the profile's hint."""
    found: dict[str, Any] = {
        field.name: getattr(Settings(), field.name) / divide
        for field in fields(Settings)
        if field.type == "float"
    }
    if profile == "fast":
        found["retry_after_ms"] = HINT_MS
    return found


class Twin:
    """One estate whose HSM is lost, ready to be recovered.

    Parameters:
        folder: holds the lab and every file of the recovery.
        others: settings of the lab that are not the profile's.
    """

    def __init__(self, folder: Path, profile: str, divide: float, **others: Any) -> None:
        self.folder = folder
        self.home = folder / "lab"
        wanted = settings(profile, divide) | others
        self.lab = commands.up(self.home, speed=1.0, settings=wanted)
        self.environment = {**commands.env(self.home), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        storage = self.lab["storage"]
        account, container = storage["account"], storage["container"]
        self.container_url = f"https://{account}.blob.core.windows.net/{container}"
        self.inventory = folder / "inventory.json"
        source, domain = self.lab["source_hsm"]["name"], self.lab["security_domain"]["file"]
        wanted = ["inventory", "--hsm", source, "--out", self.inventory, "--sd-file", domain]
        self.do([*DRENGINE, *wanted, "--container-url", self.container_url])
        commands.disaster(self.home, "purge")
        self._await_inaccessible()

    def do(self, command: list[Any]) -> str:
        """Run a command as a client of the lab; return what it printed."""
        words = [str(word) for word in command]
        done = subprocess.run(
            words,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def measured(self, work: Callable[[], None]) -> Turn:
        """Do the work; return its wall seconds and the requests that it made."""
        rows = commands.log(self.home)
        before = rows[-1]["seq"] if rows else 0
        began, used = time.perf_counter(), children_seconds()
        work()
        seconds, used = time.perf_counter() - began, children_seconds() - used
        people = {self.lab["object_id"], None}
        rows = [
            row
            for row in commands.log(self.home, before)
            if row["method"] and row["principal"] in people
        ]
        return Turn(seconds, len(rows), used, closest_look(rows))

    def _await_inaccessible(self) -> None:
        databases = sum(len(one["databases"]) for one in self.lab["instances"])
        until = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < until:
            rows = commands.log(self.home)
            lost = [row for row in rows if row["effect"] == "sql.database.inaccessible"]
            if len({row["target"] for row in lost}) >= databases:
                return
            time.sleep(LOOK_SECONDS)
        raise SystemExit("the lab's databases do not miss their HSM")


@contextmanager
def twin(profile: str, divide: float, **others: Any) -> Iterator[Twin]:
    """Give an estate that is taken down afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="side-by-side-"))
    try:
        yield Twin(folder, profile, divide, **others)
    finally:
        if (folder / "lab" / "identity.json").exists():
            commands.down(folder / "lab")
        shutil.rmtree(folder, ignore_errors=True)


class ByAz:
    """The commands of the page and of each instance, one process after the other."""

    def __init__(self, estate: Twin, az: Path) -> None:
        self._estate = estate
        self._az = str(az)
        self.commands = 0
        doc = json.loads(estate.inventory.read_bytes())
        self._protectors = {one["name"]: one["protector"]["uri"] for one in doc["instances"]}

    def az(self, line: str, *more: str) -> str:
        self.commands += 1
        return self._estate.do([self._az, *line.split(), *more, "-o", "tsv"])

    def recover(self) -> None:
        """Carry out the procedure."""
        self._security_domain()
        self._backup_and_restore()
        for instance in sorted(
            self._estate.lab["instances"], key=lambda i: i["role"] != "Secondary"
        ):
            self._repoint(instance["name"])

    def _security_domain(self) -> None:
        lab, folder = self._estate.lab, self._estate.folder
        domain = lab["security_domain"]
        exchange, blob = folder / "exchange.cer", folder / "restore_blob.json"
        self.az(
            f"keyvault create --hsm-name {TARGET} -g {lab['resource_group']}"
            f" -l {lab['failover_groups'][0]['locations'][1]} --retention-days 90"
            f" --administrators {lab['object_id']} --enable-purge-protection true"
        )
        verb = "keyvault security-domain"
        self.az(f"{verb} init-recovery --hsm-name {TARGET} --sd-exchange-key {exchange}")
        self.az(
            f"{verb} restore-blob --sd-exchange-key {exchange} --sd-file {domain['file']}"
            f" --sd-file-restore-blob {blob} --sd-wrapping-keys",
            *domain["keys"][: domain["required"]],
        )
        self.az(f"{verb} upload --hsm-name {TARGET} --sd-file {blob} --restore-blob")

    def _backup_and_restore(self) -> None:
        storage = self._estate.lab["storage"]
        account, container = storage["account"], storage["container"]
        key = self.az(f"storage account keys list --query [0].value --account-name {account}")
        self.az(
            f"storage container create --account-name {account} --name {container} --account-key",
            key,
        )
        until = f"{datetime.now(UTC) + timedelta(minutes=500):%Y-%m-%dT%H:%MZ}"
        signing = (
            f"storage container generate-sas -n {container} --account-name {account}"
            f" --expiry {until} --permissions {{}} --account-key"
        )
        place = (
            f"--hsm-name {TARGET} --storage-account-name {account}"
            f" --blob-container-name {container}"
        )
        token = "--storage-container-SAS-token"
        writing = self.az(signing.format("crdw"), key)
        self.az(f"keyvault backup start {place} {token}", writing)
        reading = self.az(signing.format("rl"), key)
        folder = self._estate.lab["backup"]["folder"]
        self.az(f"keyvault restore start {place} --backup-folder {folder} {token}", reading)

    def _repoint(self, instance: str) -> None:
        source = self._estate.lab["source_hsm"]["name"]
        key = self._protectors[instance].replace(f"//{source}.", f"//{TARGET}.")
        at = f"-g {self._estate.lab['resource_group']} --mi {instance}"
        self.az(f"sql mi key create {at} -k {key}")
        self.az(f"sql mi tde-key set {at} -t AzureKeyVault -k {key}")


class ByDrengine:
    """The run of a plan; making the plan is not part of it, as reading the page is not."""

    def __init__(self, estate: Twin) -> None:
        self._estate = estate
        self._trust = estate.folder / "trust"
        self._cast = engage(self._trust)
        self._plan = estate.folder / "plan.json"
        inputs = estate.folder / "inputs.json"
        inputs.write_text(json.dumps(self._inputs()), encoding="utf-8")
        wanted = ["plan", "mhsm-full-recovery", "--class", "drill", "--inputs", inputs]
        estate.do([*DRENGINE, *wanted, "--out", self._plan])
        self.run = run_id_of(str(json.loads(self._plan.read_bytes())["digest"]))

    def _inputs(self) -> dict[str, Any]:
        lab = self._estate.lab
        return {
            "source_hsm": lab["source_hsm"]["name"],
            "target_hsm": TARGET,
            "resource_group": lab["resource_group"],
            "location": lab["failover_groups"][0]["locations"][1],
            "inventory": str(self._estate.inventory),
            "sd_file": lab["security_domain"]["file"],
            "container_url": self._estate.container_url,
            "storage_identity": lab["identity"]["id"],
            # az looks once, if at all; a soak is a wait that the person chooses.
            "soak": "0s",
        }

    def recover(self) -> None:
        """Run the plan and play its people until the process has ended."""
        with self._running() as (running, step):
            until = time.monotonic() + LONGEST_SECONDS
            while running.poll() is None and time.monotonic() < until:
                step()
            running.terminate()
        if running.returncode:
            said = (self._estate.folder / "run.log").read_text()
            raise SystemExit(f"drengine run ended with {running.returncode}: {said}")

    def killed_after(self, effect: str) -> None:
        """Run the plan until the lab has accepted an effect; then end the process at once."""
        home = self._estate.home
        with self._running() as (running, step):
            while running.poll() is None:
                if any(seen.split()[0] == effect for seen in commands.effects(home)):
                    running.kill()
                    return
                step()
        raise SystemExit(f"the run ended with {running.returncode} before {effect}")

    @contextmanager
    def _running(self) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], None]]]:
        """Give the process of the run, and what plays its people once."""
        estate = self._estate
        words = ["run", str(self._plan), "--wait", "--approvers", str(self._trust)]
        with (
            (estate.folder / "run.log").open("wb") as log,
            SqliteStore(estate.home / "drengine") as store,
            closing(
                PlayedPeople(store, estate.lab, estate.environment, estate.folder, self._cast)
            ) as people,
            subprocess.Popen(
                [*DRENGINE, *words], env=estate.environment, stdout=log, stderr=subprocess.STDOUT
            ) as running,
        ):
            follower = Follower(store, self.run)

            def step() -> None:
                follower.advance()
                people.answer(follower.family)
                time.sleep(LOOK_SECONDS)

            yield running, step


def turns(profile: str, rounds: int, divide: float, az: Path) -> dict[str, list[Turn]]:
    """Recover by az and by drengine in turn."""
    taken: dict[str, list[Turn]] = {"az": [], "drengine": []}
    for _ in range(rounds):
        with twin(profile, divide) as estate:
            taken["az"].append(estate.measured(ByAz(estate, az).recover))
        with twin(profile, divide) as estate:
            taken["drengine"].append(estate.measured(ByDrengine(estate).recover))
    return taken


def figures_of(profile: str, taken: dict[str, list[Turn]], goal: float | None) -> list[Figure]:
    """Return medians, and the median of the ratios of the pairs."""
    found = []
    for who, turns_ in taken.items():
        seconds = statistics.median(turn.seconds for turn in turns_)
        requests = statistics.median(turn.requests for turn in turns_)
        used = statistics.median(turn.processor_seconds for turn in turns_)
        found.append(Figure(f"{profile}: {who}", seconds, "s"))
        found.append(Figure(f"{profile}: {who}, processor", used, "s"))
        found.append(Figure(f"{profile}: {who}, requests", requests))
    pairs = zip(taken["drengine"], taken["az"], strict=True)
    ratio = statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)
    closest = min(turn.closest_look for turn in taken["drengine"])
    return [
        *found,
        Figure(f"{profile}: drengine over az", ratio, at_most=goal),
        Figure(f"{profile}: closest looks of drengine", closest, "s", at_least=KIND[profile]),
    ]


def measure(
    profiles: tuple[str, ...] = tuple(GOALS), rounds: int = 0, divide: float = DIVIDE
) -> list[Figure]:
    """Measure each profile; nothing where azure-cli is not installed."""
    az = az_command()
    if az is None:
        return []
    found: list[Figure] = []
    for profile in profiles:
        goal = GOALS[profile] if divide == DIVIDE else None
        taken = turns(profile, rounds or ROUNDS[profile], divide, az)
        found += figures_of(profile, taken, goal)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", choices=tuple(GOALS), action="append")
    parser.add_argument("--rounds", type=int, default=0, help="of each profile")
    parser.add_argument("--divide", type=float, default=DIVIDE, help="recorded durations by this")
    asked = parser.parse_args()
    show("Side by side", measure(tuple(asked.profile or GOALS), asked.rounds, asked.divide))
    return 0


if __name__ == "__main__":
    sys.exit(main())
