from __future__ import annotations

import json

import pytest

from drengine.lab.spec import EstateSpec, GroupSpec, InstanceSpec, KeySpec, from_document


def test_a_specification_goes_through_json() -> None:
    for wanted in (
        EstateSpec(),
        EstateSpec(
            keys=(KeySpec("k", versions=2),),
            groups=(GroupSpec("g", InstanceSpec("a", "w", ("d",), "k"), "b", "n"),),
            standalone=(),
        ),
    ):
        assert from_document(json.loads(json.dumps(wanted.to_document()))) == wanted


def test_missing_parts_are_the_defaults_and_unknown_ones_are_refused() -> None:
    assert from_document({"custodians": 5}) == EstateSpec(custodians=5)
    with pytest.raises(TypeError, match="colour"):
        from_document({"colour": "red"})


def test_default_names_cannot_exist_in_real_azure() -> None:
    assert "--" in EstateSpec().source_hsm
    assert "-" in EstateSpec().storage_account
