"""Fixtures of the evidence tests: stores, and stories told to them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from drengine.evidence.collect import collect
from drengine.journal.memory import MemoryStore

HERE = Path(__file__).parent


def load(name):
    known = f"evidence_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, HERE / f"{name}.py")
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


@pytest.fixture(scope="session")
def tell():
    """Everything that tells stories."""
    return SimpleNamespace(**{**vars(load("story")), **vars(load("tales"))})


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def journals():
    """Return run id -> records, as `collect` takes them."""

    def read(store):
        return {row.run: list(store.read(row.run)) for row in store.runs()}

    return read


@pytest.fixture
def plain_run(tell, store):
    """A drill that recovered without a hitch."""
    return tell.recover(tell.Story(store, tell.make_plan()))


@pytest.fixture
def troubled_run(tell, store):
    """A drill in which everything went wrong that may, and that recovered."""
    return tell.troubled(tell.Story(store, tell.make_plan()))


@pytest.fixture
def facts(journals, store):
    """Collect the facts of a story told to `store`."""

    def collected(story):
        return collect(story.plan, journals(store))

    return collected
