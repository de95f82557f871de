"""What the operator may not do is told before anybody is woken up, and refuses nothing."""

from __future__ import annotations


def test_a_right_that_is_lacking_is_told_with_the_plan(poor_place):
    code, said, _ = poor_place.plan()
    assert code == 0
    assert "would be refused" not in said
    assert "create-hsm would begin with warnings" in said
    assert "may not do Microsoft.Sql/managedInstances/keys/write on sqlmi-a, sqlmi-b," in said
    assert "SQL Managed Instance Contributor" in said


def test_whoever_has_all_rights_is_not_warned_of_them(place):
    code, said, _ = place.plan()
    assert code == 0
    assert "rights:" not in said
