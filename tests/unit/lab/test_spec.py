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


def test_an_estate_of_a_size_has_that_size() -> None:
    found = from_document({"scale": {"keys": 30, "instances": 21, "databases": 100}})
    assert len(found.keys) == 30
    assert len(found.groups) * 2 + len(found.standalone) == 21
    primaries = [one.primary for one in found.groups] + list(found.standalone)
    assert sum(len(one.databases) for one in primaries) == 100
    assert {one.key for one in primaries} <= {one.name for one in found.keys}


@pytest.mark.parametrize(
    "scale",
    [{"keys": 5001}, {"instances": 201}, {"databases": 0}, {"keys": 1, "instances": 4}],
)
def test_an_estate_beyond_the_limits_is_refused(scale: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"an estate takes|need"):
        from_document({"scale": scale})


def test_a_scaled_estate_may_be_renamed() -> None:
    found = from_document({"scale": {}, "source_hsm": "big--hsm"})
    assert found.source_hsm == "big--hsm"
