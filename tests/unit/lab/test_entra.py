from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from drengine.lab.entra import is_for, mint_token, read_bearer

TENANT = "11111111-1111-4111-8111-111111111111"


def token(**change: Any) -> str:
    made: dict[str, Any] = {
        "tenant": TENANT,
        "object_id": "o",
        "app_id": "a",
        "audience": "https://managedhsm.azure.net",
        "kind": "operator",
        "lifetime_seconds": 60,
        **change,
    }
    return mint_token(**made)


def test_a_minted_token_reads_back() -> None:
    found = read_bearer(f"Bearer {token()}", TENANT)
    assert found is not None
    assert (found.object_id, found.app_id, found.kind) == ("o", "a", "operator")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer !.!.",
        f"Basic {token()}",
        f"Bearer {token(lifetime_seconds=-1)}",
        f"Bearer {token(tenant='other')}",
        f"Bearer {token()}signature",
    ],
)
def test_what_is_no_valid_token_speaks_for_nobody(header: str) -> None:
    assert read_bearer(header, TENANT) is None


def test_a_token_that_claims_a_signature_is_not_taken() -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256"}).encode()).decode().rstrip("=")
    forged = ".".join([head, token().split(".")[1], ""])
    assert read_bearer(f"Bearer {forged}", TENANT) is None


@pytest.mark.parametrize(
    ("audience", "auth", "expected"),
    [
        ("https://management.azure.com/", "arm", True),
        ("https://management.core.windows.net/", "arm", True),
        ("https://management.core.windows.net", "arm", True),
        ("https://managedhsm.azure.net", "hsm", True),
        ("https://managedhsm.azure.net", "arm", False),
        ("https://vault.azure.net", "hsm", False),
        ("https://storage.azure.com/", "storage", True),
    ],
)
def test_each_service_takes_its_own_audience(audience: str, auth: Any, expected: bool) -> None:
    principal = read_bearer(f"Bearer {token(audience=audience)}", TENANT)
    assert principal is not None
    assert is_for(principal, auth) is expected
