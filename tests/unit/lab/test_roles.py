from __future__ import annotations

import uuid

import pytest

from drengine.lab.hsm import roles
from drengine.lab.store import Store

WHO = str(uuid.uuid4())


@pytest.mark.parametrize(
    ("scope", "above"),
    [
        ("/", ["/"]),
        ("/keys", ["/", "/keys"]),
        ("/keys/K1", ["/", "/keys", "/keys/k1"]),
    ],
)
def test_a_scope_lies_below_others(scope: str, above: list[str]) -> None:
    assert roles.scopes_above(scope) == above


@pytest.mark.parametrize(
    ("granted_at", "asked_at", "expected"),
    [
        ("/", "/keys/a", True),
        ("/keys", "/keys/a", True),
        ("/keys/a", "/keys/A", True),
        ("/keys/a", "/keys/ab", False),
        ("/keys/a", "/keys", False),
        ("/keys", "/", False),
    ],
)
def test_rights_reach_downwards_only(
    store: Store, granted_at: str, asked_at: str, expected: bool
) -> None:
    with store.transaction() as tx:
        roles.assign(tx, "h", principal_id=WHO, definition=roles.CRYPTO_USER, scope=granted_at)
        assert roles.is_allowed(tx, "h", WHO, "/keys/sign/action", asked_at) is expected
        assert not roles.is_allowed(tx, "h2", WHO, "/keys/sign/action", asked_at)
        assert not roles.is_allowed(tx, "h", WHO, "/keys/deletedKeys/delete", asked_at)


def test_an_assignment_takes_effect_after_its_propagation(store: Store) -> None:
    with store.transaction() as tx:
        roles.assign(tx, "h", principal_id=WHO, definition=roles.CRYPTO_USER)
        assert not roles.is_allowed(tx, "h", WHO, "/keys/create", "/keys", delay_ms=60_000)
        assert roles.is_allowed(tx, "h", WHO, "/keys/create", "/keys")
        tx.now_ms += 60_000
        assert roles.is_allowed(tx, "h", WHO, "/keys/create", "/keys", delay_ms=60_000)


def test_a_custom_role_grants_what_it_names_less_what_it_denies(store: Store) -> None:
    prefix = roles.ACTION_PREFIX
    permission = {
        "dataActions": [f"{prefix}/keys/read/action", f"{prefix}/keys/write/action"],
        "notDataActions": [f"{prefix}/keys/write/action"],
    }
    with store.transaction() as tx:
        tx.put(roles.DEFINITION, "h/custom", {"permissions": [permission]})
        assert roles.data_actions(tx, "h", "custom") == {"/keys/read/action"}
        assert roles.data_actions(tx, "h", "unknown") == frozenset()


def test_administrators_have_no_right_to_use_keys() -> None:
    _, actions = roles.BUILT_IN[roles.ADMINISTRATOR]
    assert not [one for one in actions if one.startswith("/keys")]
