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
    return SimpleNamespace(
        **{**vars(load("story")), **vars(load("tales")), **vars(load("hostile"))}
    )


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
        return collect(story.plan, journals(store), story.register)

    return collected


@pytest.fixture(scope="session")
def cast(tmp_path_factory):
    """People with keys, and a trust folder of theirs."""
    return load("forging").Cast(tmp_path_factory.mktemp("cast") / "trust")


@pytest.fixture(scope="session")
def alone():
    """Run the single file that ships in bundles: `alone(bundle, trust, *earlier)`."""
    return load("forging").alone


@pytest.fixture(scope="session")
def make_bundle(tell, cast):
    """Seal a story with signed decisions; by default the plain one."""
    from dataclasses import replace

    from drengine.evidence.reports import reports_of
    from drengine.evidence.seal import SealRequest, seal

    def make(folder, tale=None, plan=None, signer=None, again=None, start=None, **more):
        cast.number = 0
        store = MemoryStore()
        begun = tell.START_MS if start is None else start
        story = tell.Story(store, plan or tell.make_plan(), cast=cast, start=begun)
        (tale or tell.recover)(story)
        request = SealRequest(
            run=story.run,
            out=folder / story.run,
            signer=signer or cast.sealer,
            reports=reports_of,
            **more,
        )
        if again is not None:
            seal(store, replace(request, out=again))
        return seal(store, request)

    return make


@pytest.fixture(scope="session")
def honest(make_bundle, tmp_path_factory):
    """A sealed bundle that nobody has touched; not to be changed."""
    return make_bundle(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="session")
def forging():
    """Everything that forges."""
    return load("forging")


@pytest.fixture
def forger(honest, tmp_path, cast, make_bundle, tell):
    """A copy of the honest bundle, in the hands of a forger."""

    def make(folder):
        return make_bundle(folder, plan=tell.make_plan(target_hsm="contoso-two"))

    return load("forging").Forger(honest, tmp_path, cast, make)
