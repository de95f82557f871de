"""A protector with automatic rotation follows the newest version of its key.

At most once in `auto_rotation_check` an instance asks its HSM which version is the newest,
links that one and switches to it. In a failover group the secondary has to be first: the
primary finds the same URI linked there, or stays as it is and tries again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drengine.lab.sql import keycalls, keys, protector, state
from drengine.lab.sql.keycalls import KeyRefused
from drengine.lab.sql.names import parse_key_uri

if TYPE_CHECKING:
    from drengine.lab.sql.faults import Refusal
    from drengine.lab.world import Lab


def follow(lab: Lab, instance_key: str) -> None:
    """Switch an instance to the newest version of its key, where it wants that."""
    with lab.store.transaction() as tx:
        doc = state.instance(tx, instance_key)
        linked = state.protector_key(tx, instance_key, doc)
        caller = state.caller_of(tx, doc)
        early = tx.now_ms < doc.get("rotation_check_ms", 0)
        if not doc["protector"].get("auto_rotation") or linked is None or caller is None:
            return
        if early or doc.get("busy"):
            return
        doc["rotation_check_ms"] = tx.now_ms + int(lab.settings.auto_rotation_check * 1000)
        tx.put(state.INSTANCES, instance_key, doc)
    try:
        newest = keycalls.newest_version(lab, caller, linked["resolved_uri"])
        if newest.lower() == linked["resolved_uri"].lower():
            return
        found = _switch(lab, instance_key, keycalls.check_key(lab, caller, newest, is_new=False))
    except KeyRefused as refused:
        found = refused.refusal
    if found is not None:
        _stay(lab, instance_key, found)


def _switch(lab: Lab, instance_key: str, facts: keycalls.KeyFacts) -> Refusal | None:
    parsed = parse_key_uri(facts.resolved_uri)
    if parsed is None:
        raise ValueError(f"the HSM named no key: {facts.resolved_uri}")
    with lab.store.transaction() as tx:
        keys.store_key(tx, instance_key, parsed.server_key_name, facts)
    return protector.rotate(lab, instance_key, parsed.server_key_name)


def _stay(lab: Lab, instance_key: str, found: Refusal) -> None:
    """Record why the protector stays, and try again at the next check."""
    with lab.store.transaction() as tx:
        doc = state.instance(tx, instance_key)
        doc["rotation_check_ms"] = 0
        tx.put(state.INSTANCES, instance_key, doc)
        tx.log_effect("sql.protector.stays", doc["name"], {"code": found.code})
