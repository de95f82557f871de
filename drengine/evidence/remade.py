"""A sealed bundle, file by file: made again from plan and journals, and compared.

Rules:
- Every file of a bundle is known by name; there is no other.
- What plan and journals give is made again: inputs, artifacts and, where this is the version
  that rendered them, README, verifier and every report but the printed pages.
- What cannot be made again is said: printed pages, corrective actions, another version's text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import drengine
from drengine.evidence.bundle import (
    ACTIONS,
    APPROVERS,
    BUNDLE,
    INVENTORY,
    MANIFEST,
    is_outside,
)
from drengine.evidence.contents import (
    ATTACHED,
    PAGES,
    inputs_of,
    inventory_of_plan,
    is_checkpoint,
)
from drengine.evidence.readme import README, bundle_readme
from drengine.evidence.reports import reports_beside
from drengine.evidence.seal import VERIFIER
from drengine.evidence.verify import FolderCheck
from drengine.evidence.watching import BundleWatch
from drengine.model.canonical import sha256_hex
from drengine.model.facts import EvidenceFacts
from drengine.resources import template_folder
from drengine.trust.dsse import parse_json

_RENDERED: Final = (README, VERIFIER)
_REPORTS: Final = ("executive.html", "report.md", "timeline.svg", "oscal-ar.json", "junit.xml")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares the files of a bundle with what its journals and its plan give."""

    check: FolderCheck
    watch: BundleWatch
    facts: EvidenceFacts
    keyid: str
    sealed_by: str

    def run(self) -> None:
        """Compare everything; problems and notes go to the check."""
        given = {name: sha256_hex(data) for name, data in self._inputs().items()}
        given |= self.watch.artifacts
        rendered = {f"reports/{name}" for name in _REPORTS} | {*_RENDERED}
        known = given.keys() | rendered | self._optional()
        for name in sorted((given.keys() | rendered | {ACTIONS}) - self.check.files.keys()):
            self.check.problem(name, "is missing: sealing makes it")
        for name in sorted(self.check.files.keys() - known):
            if not self._is_of_a_bundle(name):
                self.check.problem(name, "is not a file that a sealed bundle has")
        for name in sorted(given.keys() & self.check.files.keys()):
            if self.check.digest(name) != given[name]:
                self.check.problem(name, "is not what plan and journals give")
        self._named_by_digest()
        self._rendered()
        self._actions()

    def _inputs(self) -> dict[str, bytes]:
        return inputs_of(self.watch.plan, self.facts)

    def _optional(self) -> set[str]:
        attached = {f"{ATTACHED}{sha256}" for sha256 in self.watch.attached if sha256}
        inventory = {INVENTORY} if inventory_of_plan(self.watch.plan) else set()
        return attached | inventory | PAGES | ({APPROVERS} if self.facts.approvers else set())

    def _is_of_a_bundle(self, name: str) -> bool:
        """Whether the name is one that is judged elsewhere: journals, decisions, seal, stamps."""
        if name.endswith(".tsr") and is_checkpoint(name):
            return f"{name.removesuffix('.tsr')}.json" in self.check.files
        fixed = (MANIFEST, ACTIONS, BUNDLE.plan, BUNDLE.facts, BUNDLE.report)
        judged = name.startswith(("journals/", "approvals/"))
        return name in fixed or judged or is_checkpoint(name) or is_outside(name)

    def _named_by_digest(self) -> None:
        """Compare what the plan or a record names by its SHA-256."""
        named = {INVENTORY: inventory_of_plan(self.watch.plan)}
        named |= {f"{ATTACHED}{sha256}": sha256 for sha256 in self.watch.attached}
        for name in sorted(named.keys() & self.check.files.keys()):
            if self.check.digest(name) != named[name]:
                self.check.problem(name, "does not have the digest that the plan or a record names")

    def _rendered(self) -> None:
        """Render again what this version rendered; what another did is not compared, and said."""
        version = self.check.rendered_by or ""
        if self.check.rendered_by is not None and version != self.sealed_by:
            self.check.problem(
                BUNDLE.report,
                f"says that drengine {version[:20]} made it; manifest.json says that"
                f" {self.sealed_by[:20] or 'nobody'} sealed it",
            )
        if version != drengine.__version__:
            names = ", ".join((*_RENDERED, *(f"reports/{name}" for name in _REPORTS)))
            self.check.notes.append(
                f"Made by drengine {version[:20] or '?'}, this is {drengine.__version__}: not"
                f" compared were {names}."
            )
            return
        for name, data in self._made().items():
            if name == README and not self.keyid:
                continue  # it names the sealing key, and there is no seal to be read
            if name in self.check.files and self.check.digest(name) != sha256_hex(data):
                self.check.problem(name, "is not what these journals give")
        if printed := sorted(PAGES & self.check.files.keys()):
            self.check.notes.append(f"Not made again and not compared: {', '.join(printed)}.")

    def _made(self) -> dict[str, bytes]:
        reports = reports_beside(self.facts, self.check.optional(ACTIONS))
        return {
            README: bundle_readme(self.facts, self.keyid).encode(),
            VERIFIER: (template_folder() / VERIFIER).read_bytes(),
            **{f"reports/{name}": data for name, data in reports.items()},
        }

    def _actions(self) -> None:
        """Corrective actions come from no journal: only their form is judged."""
        data = self.check.document(ACTIONS) if ACTIONS in self.check.files else None
        if data is None:
            return
        try:
            doc = parse_json(data)
        except ValueError as error:
            self.check.problem(ACTIONS, str(error))
            return
        rows = doc.get("actions", []) if isinstance(doc, dict) else None
        is_good = isinstance(rows, list) and all(
            isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows
        )
        if not is_good or doc.keys() - {"schema", "run", "actions", "reviews"}:
            self.check.problem(ACTIONS, "is not a list of corrective actions")
        elif doc.get("schema") != "drengine/actions/v1" or doc.get("run", self.facts.run) != (
            self.facts.run
        ):
            self.check.problem(ACTIONS, "is of another kind or run")
        elif rows:
            self.check.notes.append(f"{ACTIONS} is the sealer's word: no journal gives it.")
