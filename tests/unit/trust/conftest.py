"""Fixtures: a run that waits at a gate, and people with keys."""

from __future__ import annotations

import pytest
from gated import Person, Place


@pytest.fixture
def make_place():
    return Place


@pytest.fixture
def make_person():
    return Person


@pytest.fixture
def place():
    return Place(Person("ada", "security-officer"), Person("bruno", "security-officer"))
