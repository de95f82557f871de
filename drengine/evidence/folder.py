"""The evidence folder: journals byte for byte, plan, facts, report and their digests.

```
<folder>/
  README.txt               how to verify by hand
  SHA256SUMS               digest of every other file
  approvers.json           the register of approvers, where the run was started with one
  facts.json               the facts, recomputed by whoever verifies
  journals/<run>.jsonl     one chain each; `/` in a run's id is `~` in the name
  plan.json                the frozen plan in canonical form
  actions.json             corrective actions, where the caller has them
  report.html              the same facts for people
  <extra files>            whatever the caller adds
```

It appears whole or not at all: everything is written into a folder beside it, synced,
and renamed. Folders are 0700, files 0600. Signing and time stamps are not its matter;
they come as files beside these and leave them as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drengine.errors import InputError
from drengine.evidence.collect import collect
from drengine.evidence.render import render_html
from drengine.evidence.sums import SUMS, is_safe_name, write_sums
from drengine.journal.codec import records_of
from drengine.journal.files import sync_folder, write_whole
from drengine.journal.port import JournalStore
from drengine.model.canonical import JsonObject, canonical, sha256_hex
from drengine.model.facts import EvidenceFacts
from drengine.model.ids import RunId, root_of, run_file_name
from drengine.model.records import Record

PLAN_DOCUMENT: Final = "plan"
"""The name under which a run's plan is kept in the store."""

APPROVERS_DOCUMENT: Final = "approvers"
"""The name under which the register of approvers is kept there, where a run has one."""

PLAN_FILE: Final = "plan.json"
APPROVERS_FILE: Final = "approvers.json"
ACTIONS_FILE: Final = "actions.json"
FACTS_FILE: Final = "facts.json"
REPORT_FILE: Final = "report.html"
README_FILE: Final = "README.txt"
JOURNALS: Final = "journals"


@dataclass(frozen=True, slots=True)
class Sources:
    """What evidence is made from: the plan's document and the lines of every chain.

    Attributes:
        register: of the approvers, where the run was started with one.
    """

    plan: Mapping[str, object]
    lines: Mapping[str, list[bytes]]
    register: Mapping[str, object] | None = None

    def records(self) -> dict[str, list[Record]]:
        """Return the records of each chain, every hash checked.

        Raises:
            JournalDamaged: names the first record that does not follow.
        """
        return {run: list(records_of(lines, RunId(run))) for run, lines in self.lines.items()}

    def facts(self) -> EvidenceFacts:
        """Return what the sources amount to."""
        return self.facts_of(self.records())

    def facts_of(self, records: Mapping[str, list[Record]]) -> EvidenceFacts:
        """Return what the records amount to."""
        return collect(self.plan, records, self.register)


def read_sources(store: JournalStore, run: RunId) -> Sources:
    """Read the plan and the chains of a run and its children from a store.

    Raises:
        InputError: `run` is a child.
        JournalDamaged: there is no plan.
    """
    if "/" in run:
        root = root_of(run)
        raise InputError(
            f"run {run} is a child run; evidence is of whole runs",
            hint=f"Name its root: {root}",
        )
    family = [row.run for row in store.runs() if row.run == run or row.run.startswith(f"{run}/")]
    plan = store.get_document(run, PLAN_DOCUMENT)
    lines: dict[str, list[bytes]] = {each: list(store.lines(each)) for each in family or [run]}
    has_register = APPROVERS_DOCUMENT in store.documents(run)
    register = store.get_document(run, APPROVERS_DOCUMENT) if has_register else None
    return Sources(plan, lines, register)


def files_of(
    sources: Sources, facts: EvidenceFacts, actions: JsonObject | None = None
) -> dict[str, bytes]:
    """Return the name and content of every file that evidence is made of, but the sums."""
    files = {
        f"{JOURNALS}/{run_file_name(RunId(run))}": b"".join(lines)
        for run, lines in sources.lines.items()
    }
    files[PLAN_FILE] = canonical(sources.plan) + b"\n"
    if sources.register is not None:
        files[APPROVERS_FILE] = canonical(sources.register) + b"\n"
    files[FACTS_FILE] = facts_bytes(facts)
    if actions is not None:
        files[ACTIONS_FILE] = canonical(actions) + b"\n"
    files[REPORT_FILE] = render_html(facts, actions).encode()
    files[README_FILE] = readme_of(facts).encode()
    return files


def facts_bytes(facts: EvidenceFacts) -> bytes:
    """Return the facts as `facts.json` holds them, laid out for people."""
    text = json.dumps(facts.to_json(), indent=2, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode()


def write_evidence(
    store: JournalStore,
    run: RunId,
    out: Path,
    *,
    actions: JsonObject | None = None,
    extra_files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write the evidence folder of a run and return its path.

    Parameters:
        out: the folder; must not exist, or be empty.
        actions: the corrective actions that are kept, to be shown in the report.
        extra_files: relative name -> content, listed in SHA256SUMS like all others.

    Raises:
        InputError: `out` is not free, or an extra file's name cannot be used.
        JournalDamaged: a chain of the run does not verify.
    """
    sources = read_sources(store, run)
    files = files_of(sources, sources.facts(), actions)
    for name, content in (extra_files or {}).items():
        taken = {known.lower() for known in (*files, SUMS)}
        if not is_safe_name(name) or name.lower() in taken:
            raise InputError(f"evidence of {run}: a file cannot be added as {name!r}")
        files[name] = content
    files[SUMS] = write_sums({name: sha256_hex(data) for name, data in files.items()})
    return write_files(out, files)


def sums_digest(folder: Path) -> str:
    """Return the SHA-256 of SHA256SUMS: the one digest to keep where nobody else writes.

    Raises:
        OSError: it cannot be read.
    """
    return sha256_hex((folder / SUMS).read_bytes())


def write_files(out: Path, files: Mapping[str, bytes]) -> Path:
    """Write a folder of evidence, whole or not at all.

    Raises:
        InputError: `out` is not free or cannot be written; nothing was left there.
    """
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise InputError(
            f"writing evidence to {out}: it is there already; nothing was written",
            hint="Choose a folder that does not exist yet.",
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".evidence-", dir=out.parent))
    except OSError as error:
        raise InputError(f"writing evidence to {out}: {error.strerror or error}") from error
    try:
        for name in sorted(files):
            _write_one(beside / name, files[name])
        # Renaming a folder onto an empty one replaces it, and fails on any other.
        os.replace(beside, out)  # noqa: PTH105 - Path.replace is the same call
    except OSError as error:
        raise InputError(
            f"writing evidence to {out}: {error.strerror or error}; nothing was left there"
        ) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(beside)
    sync_folder(out.parent)
    return out


def _write_one(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, content)


def readme_of(facts: EvidenceFacts) -> str:
    """Return the README of the folder: what it is and how to check it without drengine."""
    lab = "LAB: simulated Azure; no real cloud was touched." if facts.is_lab else "REAL AZURE."
    heads = "\n".join(
        f"  {run.head_sha256}  last record of {JOURNALS}/{run_file_name(RunId(run.run))}"
        for run in facts.runs
    )
    return _README.format(
        kind=facts.run_class.upper(), run=facts.run, lab=lab, verdict=facts.verdict, heads=heads
    )


_README: Final = """\
{kind}   evidence of run {run}
{lab}
Verdict: {verdict}

  report.html      for people; open it in any browser, it needs no network
  facts.json       the same facts for machines
  plan.json        the frozen plan; its digest is in record 0 of the journal
  approvers.json   who may approve, and by which accounts, where the run has such a register
  actions.json     corrective actions, open and closed, of this run and those before it
  journals/        one chain of records for the run and for each of its child runs
  SHA256SUMS       the digest of every other file here

Verify with drengine (recomputes every fact from the journals):

  drengine verify .

Verify by hand, with nothing but coreutils:

  1. The files are those that were written:
       sha256sum --check --strict SHA256SUMS
  2. This list is the one you were told of. Compare with the digest you were given:
       sha256sum SHA256SUMS
  3. A chain is whole: each line names, as "prev", the SHA-256 of the line before it,
     newline included; the first names 64 zeros.
       for f in journals/*.jsonl; do
         prev=$(printf '0%.0s' $(seq 64))
         while IFS= read -r line; do
           named=$(printf '%s' "$line" | sed 's/.*"prev":"\\([0-9a-f]*\\)","run":.*/\\1/')
           [ "$named" = "$prev" ] || echo "BROKEN in $f"
           prev=$(printf '%s\\n' "$line" | sha256sum | cut -c1-64)
         done < "$f"
         echo "$prev  $f"
       done
     The last digest of each chain must be:
{heads}

This evidence is not signed. Whoever can write all of these files can make others that
verify. What protects it is the digest of SHA256SUMS, or a chain's head, kept elsewhere.
"""
