"""Every change to an exported journal is refused; the long form is `make journal-mutations`."""

from __future__ import annotations

from journalfire.mutations import MUTATIONS, campaign


def test_no_mutation_of_a_journal_goes_unseen():
    result = campaign(12_000, seed=20261122)
    assert set(result.tried) == set(MUTATIONS)
    assert result.undetected == []
    assert result.escaped == []
    assert result.slowest_ms < 1000
