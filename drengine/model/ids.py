"""Identifiers, each a type of its own so that one cannot stand in for another."""

from __future__ import annotations

import re
from typing import NewType

RunId = NewType("RunId", str)
"""`r-` and 12 hex digits of the plan's digest; a child adds `/<item>`."""

StepId = NewType("StepId", str)
ActionName = NewType("ActionName", str)
RuleId = NewType("RuleId", str)
ObservationName = NewType("ObservationName", str)
HsmName = NewType("HsmName", str)
Sha256 = NewType("Sha256", str)

STEP_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
HSM_NAME = re.compile(r"(?=.{3,24}\Z)[A-Za-z](?:-?[A-Za-z0-9])+")
"""3 to 24 letters, digits and single hyphens; starts with a letter, ends with neither hyphen."""

LAB_HSM_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]")
"""The lab also takes names with two hyphens in a row, which the real cloud cannot have."""


def is_same_id(one: str, other: str) -> bool:
    """Whether two ids of a service are the same: GUIDs come in either case."""
    return one.lower() == other.lower()


def region_key(name: str) -> str:
    """Return a region the way request paths name it: `West Europe` is `westeurope`."""
    return name.replace(" ", "").lower()


def run_id_of(plan_digest: str) -> RunId:
    """Return the id of the one run that a plan starts."""
    return RunId(f"r-{plan_digest[:12]}")


def child_id(parent: RunId, item: str) -> RunId:
    """Return the id of a child run; `item` is made safe for a file name and a command line."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", item)
    return RunId(f"{parent}/{safe}")


def root_of(run: str) -> RunId:
    """Return the run that a run and all its siblings and children descend from."""
    return RunId(run.partition("/")[0])


def run_file_name(run: RunId) -> str:
    """Return the file name of a run's exported journal: `/` becomes `~`."""
    return f"{run.replace('/', '~')}.jsonl"


def run_of_file(name: str) -> RunId:
    """Return the run whose exported journal has that file name; no id of a run has a `~`."""
    return RunId(name.removesuffix(".jsonl").replace("~", "/"))
