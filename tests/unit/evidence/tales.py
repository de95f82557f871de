"""The recoveries that the tests tell: a plain one, and one in which everything went wrong.

Loaded by conftest after `story`, under one name.
"""

from __future__ import annotations

from evidence_story import GROUPS, error, finding

from drengine.model.records import RecordType as R

KEYS = {
    "keys": [
        {
            "name": "tde-weu",
            "version": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
            "kty": "RSA-HSM",
            "status": "present",
            "public_key_equal": True,
            "canary": "unwrapped",
            "why": "",
        },
        {
            "name": "tde-neu",
            "version": "1b2c3d4e5f60718293a4b5c6d7e8f90a",
            "kty": "RSA-HSM",
            "status": "present",
            "public_key_equal": True,
            "canary": "unwrapped",
            "why": "",
        },
        {
            "name": "signing",
            "version": "2c3d4e5f60718293a4b5c6d7e8f90a1b",
            "kty": "EC-HSM",
            "status": "present",
            "public_key_equal": True,
            "canary": "signature verified",
            "why": "",
        },
        {
            "name": "wrapping",
            "version": "3d4e5f60718293a4b5c6d7e8f90a1b2c",
            "kty": "oct-HSM",
            "status": "present",
            "public_key_equal": None,
            "canary": "unprovable",
            "why": "a symmetric key shows no public part",
        },
    ],
    "inventory": {"sha256": "c0" * 32, "taken_at": "2026-11-20T23:00:00Z"},
}
ROLES = {"expected": 9, "found": 9, "missing": [], "extra": ["Managed HSM Crypto User 9f31 /keys"]}


def database(instance, name, **more):
    return {
        "instance": instance,
        "name": name,
        "before": "Inaccessible",
        "status": "Online",
        "canary": "equal",
        "protector": "https://contoso-dr.managedhsm.azure.net/keys/tde-weu/0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        "thumbprint_equal": True,
        **more,
    }


DATABASES = {
    "databases": [
        database("sqlmi-weu", "orders"),
        database("sqlmi-weu", "ledger"),
        database("sqlmi-neu", "orders"),
        database("sqlmi-neu", "archive", canary="not read"),
    ]
}
BACKUP = {"backup": {"folder": "mhsm-contoso-2026112202", "blobs_sha256": "7f" * 32}}


def recover(story, *, keys=KEYS, roles=ROLES, databases=DATABASES, until="end"):
    """A plain recovery without a hitch: 15 steps, two child runs."""
    say = story.create()
    say.reads("preflight", findings=[finding("R01", "12 of 12 things are at hand")]).gate(
        "approve-create"
    )
    say.does("create-hsm", 25).does("exchange-key", 0.5).deliver("blob", ceremony="combine").does(
        "upload", 3
    )
    if until == "upload":
        return say.say(R.RUN_WAITING, why="waiting", **{"for": ["backup-target: later"]})
    say.does("backup-target", 4).gate("approve-restore", 9, BACKUP, TWO).does("restore", 18)
    return finish(story, keys, roles, databases)


TWO = ("simulated:approver:alice", "simulated:approver:bob")


def finish(story, keys=KEYS, roles=ROLES, databases=DATABASES):
    story.say(R.STEP_SKIPPED, "grant-roles", reason="`when` is false: ${not inputs.protects_sql}")
    story.reads("prove-keys", evidence=keys).reads("prove-roles", evidence=roles)
    story.gate("approve-repoint", 4, {"groups": GROUPS})
    story.begin("repoint").say(R.GUARDS_HELD, "repoint", findings=[]).say(R.FANOUT_BEGUN, "repoint")
    for item in GROUPS:
        story.child("repoint", item)
    story.say(R.ANSWER_DONE, "repoint", outputs={"children": []}).proved("repoint")
    story.reads("prove-databases", evidence=databases)
    return story.say(R.RUN_FINISHED, why="done")


def troubled(story):
    """The same recovery with everything that may go wrong and still end well."""
    say = story.create()
    say.reads(
        "preflight",
        findings=[finding("R07", "the last backup is 7 h old", "warn", "Take backups more often.")],
    )
    say.gate("approve-create")
    # a retry
    say.cleared("create-hsm").intent("create-hsm")
    refused = story.call("PUT", "/create-hsm", 429, sent=True)
    say.say(
        R.ANSWER_REFUSED,
        "create-hsm",
        error=error("429 TooManyRequests", code="DR-A020", transient=True),
        exchanges=[refused],
    )
    say.wait(1.5).does("create-hsm", 24)
    # a generation that went stale
    say.does("exchange-key", 0.5).deliver("blob", 11)
    say.begin("upload").say(
        R.GENERATION_ENDED,
        steps=["exchange-key", "blob", "upload"],
        group="security-domain",
        why="the exchange key changed after the blob was made",
    )
    say.does("exchange-key", 0.5)
    say.say(
        R.NOTE,
        ignored="deliver",
        why="the delivered file does not fit",
        said={"step": "blob"},
        findings=[finding("blob-fits", "made for another exchange key", "block")],
        actor="simulated:custodian:erin",
        signal="d-bad",
    )
    say.deliver("blob", 8, ceremony="combine")
    # an answer that was lost, and found
    say.cleared("upload").intent("upload").say(
        R.ANSWER_LOST,
        "upload",
        why="connection reset after 31 s",
        exchanges=[story.call("POST", "/securitydomain/upload", 0, sent=True)],
    )
    say.wait(1).say(R.PROBE_PRESENT, "upload", why="the HSM is activated", outputs={}).proved(
        "upload"
    )
    # a guard, and a process that stops
    say.begin("backup-target").say(R.PROBE_ABSENT, "backup-target", why="none")
    say.say(
        R.GUARDS_REFUSED,
        "backup-target",
        findings=[
            finding(
                "G04",
                "the storage account denies the HSM",
                "block",
                "Grant Storage Blob Data Contributor.",
            )
        ],
        error=error("G04: the storage account denies the HSM", code="DR-G001"),
    )
    say.say(R.RUN_STOPPED, why="refused", **{"for": ["backup-target: G04"]})
    say.wait(6).open().does("backup-target", 4)
    # an approval whose facts changed
    say.gate("approve-restore", 9, BACKUP, TWO)
    say.cleared("restore").say(R.STEP_HELD, "restore", why="changed since the approval: backup")
    say.say(R.GATE_VOIDED, "approve-restore", why="changed since the approval: backup")
    say.ask("approve-restore", 2, BACKUP).wait(2).approve(
        "approve-restore",
        "simulated:approver:carol",
        "not the folder we agreed on",
        R.GATE_REJECTED,
    )
    say.say(R.RUN_STOPPED, why="refused", **{"for": ["approve-restore was rejected"]}).wait(
        3
    ).open()
    say.gate("approve-restore", 6, BACKUP, TWO)
    # an outcome that a person had to tell
    say.cleared("restore").intent("restore").say(
        R.ANSWER_LOST, "restore", why="the process ended before an answer was recorded"
    )
    say.wait(2).say(R.PROBE_ABSENT, "restore", why="no job is listed").wait(1).say(
        R.PROBE_ABSENT, "restore", why="no job is listed"
    )
    say.say(
        R.OUTCOME_UNKNOWN,
        "restore",
        intent_at=story.now,
        looks=2,
        error=error("the request was sent, its answer was lost", code="DR-O001"),
    )
    say.say(R.RUN_STOPPED, why="unknown outcome", **{"for": ["restore"]}).wait(8).open()
    say.say(
        R.OUTCOME_FOUND,
        "restore",
        actor="operator:dana",
        reason="keys are listed in the new HSM",
        outputs={},
    ).wait(1).proved("restore", findings=[finding("restored", "4 keys listed")])
    # the process dies without a word
    say.wait(2).open()
    return finish(story)
