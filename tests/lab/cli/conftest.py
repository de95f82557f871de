"""A lab whose HSM is lost, and one process that carries out commands in it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drengine.drills.children import Engine
from drengine.lab import commands


@dataclass
class Place:
    """A lab after the disaster.

    `run` carries out a command in the lab's environment and returns exit code and output.
    """

    folder: Path
    lab: dict[str, Any]
    engine: Engine
    counter: list[int] = field(default_factory=lambda: [0])

    def run(self, *arguments: object) -> tuple[int, str]:
        log = self.folder / "engine.log"
        before = log.stat().st_size
        self.engine.begin(*(str(argument) for argument in arguments))
        code = self.engine.code(100)
        assert code is not None, "the command hangs"
        return code, log.read_bytes()[before:].decode()

    def inputs(self, **changed: object) -> Path:
        storage = self.lab["storage"]
        values: dict[str, Any] = {
            "source_hsm": "contoso--hsm",
            "target_hsm": "contoso--new",
            "resource_group": self.lab["resource_group"],
            "location": "northeurope",
            "inventory": str(self.folder / "inventory.json"),
            "sd_file": self.lab["security_domain"]["file"],
            "container_url": f"https://{storage['account']}.blob.core.windows.net/hsm-backups",
            "storage_identity": self.lab["identity"]["id"],
        }
        values.update(changed)
        kept = {name: value for name, value in values.items() if value is not None}
        self.counter[0] += 1
        path = self.folder / f"inputs-{self.counter[0]}.json"
        path.write_text(json.dumps(kept))
        return path

    def plan(self, **changed: object) -> tuple[int, str, Path]:
        inputs = self.inputs(**changed)
        out = inputs.with_name(inputs.name.replace("inputs", "plan"))
        code, said = self.run(
            "plan", "mhsm-full-recovery", "--class", "drill", "--inputs", inputs, "--out", out
        )
        return code, said, out

    def changes(self) -> list[str]:
        """What clients of the HSM side changed; the lab's own life is left out."""
        rows = commands.log(self.folder / "lab")
        return [row["effect"] for row in rows if str(row["effect"]).startswith("hsm.")]


@contextmanager
def placed(prepare_home: Any, **settings: object) -> Iterator[Place]:
    """Begin a lab with these settings, take its inventory, lose its HSM."""
    folder = Path(tempfile.mkdtemp(prefix="cli-"))
    try:
        prepare_home(folder / "lab")
        lab = commands.up(folder / "lab", speed=60, settings=settings)
        with closing(Engine(commands.env(folder / "lab"), folder / "engine.log")) as engine:
            found = Place(folder, lab, engine)
            code, said = found.run(
                "inventory", "--hsm", "contoso--hsm", "--out", folder / "inventory.json"
            )
            assert code == 0, said
            commands.disaster(folder / "lab", "purge")
            yield found
    finally:
        if (folder / "lab" / "identity.json").exists():
            commands.down(folder / "lab")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def place(prepare_home: Any) -> Iterator[Place]:
    with placed(prepare_home) as found:
        yield found


@pytest.fixture(scope="module")
def poor_place(prepare_home: Any) -> Iterator[Place]:
    """A lab whose operator may link no key to an instance."""
    lacks = "Microsoft.Sql/managedInstances/keys/write"
    with placed(prepare_home, operator_lacks=lacks) as found:
        yield found
