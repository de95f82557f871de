"""The plan: runbook + inputs + discovery, resolved, frozen and hashed.

A plan is portable: it carries the text of every runbook it uses, so that another
host needs nothing else. It holds references to secrets, never secrets. It starts
one run, whose id is derived from the plan's digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drengine.model.canonical import Json, JsonObject, digest
from drengine.model.ids import RunId, run_id_of
from drengine.model.runbook import RunClass

PLAN_SCHEMA = "drengine/plan/v1"


@dataclass(frozen=True, slots=True)
class CloudIdentity:
    """Where a plan may act and as whom; compared with the token before the first call.

    Attributes:
        name: the cloud's name (`AzureCloud`).
        tenant, subscription: GUIDs.
        principal: object id of the signed-in principal, empty where it cannot be told.
        hsm_suffix: DNS suffix of Managed HSMs without a leading dot.
        storage_suffix: DNS suffix of storage without `blob.` (`core.windows.net`).
        lab: whether the plan was made against a lab.
    """

    name: str
    tenant: str
    subscription: str
    principal: str
    hsm_suffix: str = "managedhsm.azure.net"
    storage_suffix: str = "core.windows.net"
    lab: bool = False

    def to_json(self) -> dict[str, Json]:
        """Return the identity as it stands in the plan and in record 0."""
        return {
            "name": self.name,
            "tenant": self.tenant,
            "subscription": self.subscription,
            "principal": self.principal,
            "hsm_suffix": self.hsm_suffix,
            "storage_suffix": self.storage_suffix,
            "lab": self.lab,
        }

    @staticmethod
    def from_json(doc: Mapping[str, Any]) -> CloudIdentity:
        """Return the identity that `doc` describes; unknown keys raise TypeError."""
        return CloudIdentity(**doc)


@dataclass(frozen=True, slots=True)
class PlanPart:
    """One runbook of a plan with its inputs and what discovery found.

    Attributes:
        runbook_text, runbook_sha256: the document, byte for byte, and its digest.
        inputs: resolved values; an input that only a running parent knows is absent here.
        deferred: names of those absent inputs; they are bound when the child run starts.
        discovery: name -> answer, frozen.
        children: step id -> the plan part of the sub-runbook that the step runs.
    """

    runbook_name: str
    runbook_text: str
    runbook_sha256: str
    inputs: JsonObject
    discovery: JsonObject = field(default_factory=dict)
    deferred: tuple[str, ...] = ()
    children: Mapping[str, PlanPart] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Return the part as it is hashed."""
        return {
            "runbook": {
                "name": self.runbook_name,
                "sha256": self.runbook_sha256,
                "text": self.runbook_text,
            },
            "inputs": dict(self.inputs),
            "deferred": list(self.deferred),
            "discovery": dict(self.discovery),
            "children": {step: part.to_json() for step, part in self.children.items()},
        }

    @staticmethod
    def from_json(doc: Mapping[str, Any]) -> PlanPart:
        """Return the part that `doc` describes.

        Raises:
            KeyError, TypeError: when `doc` is not a plan part.
        """
        return PlanPart(
            runbook_name=doc["runbook"]["name"],
            runbook_text=doc["runbook"]["text"],
            runbook_sha256=doc["runbook"]["sha256"],
            inputs=doc["inputs"],
            discovery=doc["discovery"],
            deferred=tuple(doc["deferred"]),
            children={step: PlanPart.from_json(part) for step, part in doc["children"].items()},
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A frozen plan.

    Attributes:
        run_class: what the run is for.
        created_at: UTC text with milliseconds and `Z`.
        tool_version: version of drengine that made it.
        cloud: where it may act.
        root: the runbook that is run.
        summary: what a reader wants to see before approving: points of no return, gates,
            deliveries, expected duration with its source, warnings.
    """

    run_class: RunClass
    created_at: str
    tool_version: str
    cloud: CloudIdentity
    root: PlanPart
    summary: JsonObject

    def to_json(self) -> dict[str, Json]:
        """Return the plan as it is written; `digest` covers everything else."""
        doc = self._body()
        return {**doc, "digest": digest(doc)}

    def _body(self) -> dict[str, Json]:
        return {
            "schema": PLAN_SCHEMA,
            "class": str(self.run_class),
            "created_at": self.created_at,
            "tool_version": self.tool_version,
            "cloud": self.cloud.to_json(),
            "root": self.root.to_json(),
            "summary": dict(self.summary),
        }

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical form of everything in the plan."""
        return digest(self._body())

    @property
    def run_id(self) -> RunId:
        """The id of the one run that this plan starts."""
        return run_id_of(self.digest)

    @staticmethod
    def from_json(doc: Mapping[str, Any]) -> Plan:
        """Return the plan that `doc` describes, after checking its own digest.

        Raises:
            ValueError: when the schema or the digest does not fit.
            KeyError, TypeError: when `doc` is not a plan.
        """
        if doc["schema"] != PLAN_SCHEMA:
            raise ValueError(f"schema is {doc['schema']!r}, expected {PLAN_SCHEMA!r}")
        plan = Plan(
            run_class=RunClass(doc["class"]),
            created_at=doc["created_at"],
            tool_version=doc["tool_version"],
            cloud=CloudIdentity.from_json(doc["cloud"]),
            root=PlanPart.from_json(doc["root"]),
            summary=doc["summary"],
        )
        if plan.digest != doc["digest"] or plan.to_json() != doc:
            raise ValueError(
                f"the plan says its digest is {doc['digest']}, but it is {plan.digest}"
            )
        return plan
