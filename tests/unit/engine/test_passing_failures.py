"""A refusal that passes by itself is tried again; another one waits for a person."""

from __future__ import annotations

import pytest

from drengine.engine.failing import error_body
from drengine.errors import AzureError
from drengine.model.ids import RunId


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("CMKOperationNotAllowed", True),
        ("AzureKeyVaultMissingPermissions", True),
        ("AzureKeyVaultKeyDisabled", False),
        ("", False),
    ],
)
def test_the_code_of_a_refusal_says_whether_it_passes(code: str, passes: bool) -> None:
    body = error_body(AzureError("refused", status=400, service_code=code), RunId("r-0123456789ab"))
    assert body["transient"] is passes
