"""Fixtures of the ceremony tests: people with keys, domains made by the tests' own writer."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def load_writer():
    name = "ceremony_domain_writer"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / "domain_writer.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def writer():
    return load_writer()


@pytest.fixture(scope="session")
def people(writer):
    return [writer.person(number) for number in range(1, 5)]


@pytest.fixture(scope="session")
def exchange(writer):
    return writer.person(99)


@pytest.fixture
def domain(writer, people):
    """A fresh 2-of-3 domain; tests may damage its document."""
    return writer.write_domain(people[:3], 2)


@pytest.fixture
def key_folder(tmp_path, people):
    """Key files `1.key` .. `4.key` with mode 0600, each with its certificate beside it."""
    folder = tmp_path / "keys"
    folder.mkdir()
    for number, one in enumerate(people, start=1):
        key = folder / f"{number}.key"
        key.write_bytes(one.key_pem())
        key.chmod(0o600)
        (folder / f"{number}.cer").write_bytes(one.certificate_pem)
    return folder


@pytest.fixture
def ceremony_files(tmp_path, domain, exchange, key_folder):
    """Paths of everything that `combine` takes, on a disk."""
    (tmp_path / "sd.json").write_bytes(domain.data)
    (tmp_path / "exchange.cer").write_bytes(exchange.certificate_pem)
    assert key_folder.parent == tmp_path
    return tmp_path
