"""A lab whose HSM is lost, custodians with homes of their own, and commands as processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drengine.lab import commands

ROOT = Path(__file__).parents[3]
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "4711-pin"


@dataclass
class World:
    """The operator's machine, and one home for every other role."""

    folder: Path
    lab: dict[str, Any]
    sessions: list[subprocess.Popen[bytes]] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)
    """What every command printed, on both streams."""
    wrapped: dict[str, Callable[[], list[str]]] = field(default_factory=dict)
    """Roles whose commands run under another command, made anew for each."""

    def environment(self, role: str, **more: str) -> dict[str, str]:
        home = self.folder / role
        home.mkdir(exist_ok=True)
        env = commands.env(self.folder / "lab") if role == "operator" else {}
        env |= {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)}
        # People's clocks agree with the run's: in a lab that is the lab's clock.
        return {**env, "DRENGINE_LAB": str(self.folder / "lab"), **more}

    def run(
        self,
        role: str,
        *words: object,
        code: int | None = 0,
        **more: Any,
    ) -> str:
        env = self.environment(role, **more.pop("env", {}))
        prefix = self.wrapped[role]() if role in self.wrapped else []
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "drengine", *map(str, words)],
            env=env,
            cwd=self.folder / role,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
            **more,
        )
        self.said += [done.stdout.encode(), done.stderr.encode()]
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def open(self, *words: object) -> subprocess.Popen[bytes]:
        running = subprocess.Popen(
            [sys.executable, "-m", "drengine", "ceremony", "open", *map(str, words)],
            env=self.environment("combiner"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.sessions.append(running)
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith(b"Then:"):
                return running
        raise AssertionError("the ceremony did not open")

    def softhsm(self, role: str, key: str, pin: str = PIN) -> dict[str, str]:
        """Put a PEM key into a token of that role, and return the role's environment."""
        if not SOFTHSM.exists() or shutil.which("softhsm2-util") is None:
            pytest.skip("softhsm2 is not installed")
        home = self.folder / role
        (home / "tokens").mkdir(parents=True)
        config = home / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {home}/tokens\n")
        env = {"SOFTHSM2_CONF": str(config)}
        tool = ["softhsm2-util", "--pin", pin]
        full = {**os.environ, **env}
        made = [*tool, "--init-token", "--free", "--label", role, "--so-pin", "87654321"]
        subprocess.run(made, env=full, check=True, capture_output=True)
        moved = [*tool, "--import", key, "--token", role, "--label", "wrap", "--id", "01"]
        subprocess.run(moved, env=full, check=True, capture_output=True)
        return env

    def status(self) -> dict[str, Any]:
        return json.loads(self.run("operator", "status", "-o", "json"))

    def inputs(self) -> Path:
        storage = self.lab["storage"]
        values = {
            "source_hsm": "contoso--hsm",
            "target_hsm": "contoso--new",
            "resource_group": self.lab["resource_group"],
            "location": "northeurope",
            "inventory": str(self.folder / "inventory.json"),
            "sd_file": self.lab["security_domain"]["file"],
            "container_url": f"https://{storage['account']}.blob.core.windows.net/hsm-backups",
            "storage_identity": self.lab["identity"]["id"],
        }
        path = self.folder / "inputs.json"
        path.write_text(json.dumps(values))
        return path


@pytest.fixture
def lost(prepare_home: Any) -> Iterator[World]:
    """A fast lab, after the disaster."""
    folder = Path(tempfile.mkdtemp(prefix="ceremony-"))
    world = None
    try:
        prepare_home(folder / "lab")
        lab = commands.up(folder / "lab", fast=True)
        world = World(folder, lab)
        world.run(
            "operator", "inventory", "--hsm", "contoso--hsm", "--out", folder / "inventory.json"
        )
        commands.disaster(folder / "lab", "purge")
        yield world
    finally:
        for running in world.sessions if world else []:
            if running.poll() is None:
                running.send_signal(signal.SIGTERM)
            running.communicate(timeout=20)
        if (folder / "lab" / "identity.json").exists():
            commands.down(folder / "lab")
        shutil.rmtree(folder, ignore_errors=True)
