"""An estate file is read, or refused with the place of what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from drengine.errors import InputFileError
from drengine.lab import estatefile

YAML = """\
source_hsm: fabrikam--hsm
required: 3
keys:
  - name: tde
    versions: 2
  - {name: sign, kty: EC-HSM, crv: P-384}
groups: []
standalone:
  - name: sqlmi-x
    location: uksouth
    databases: [one, "two words"]
    key: tde
settings:
  create_hsm: 1200
  retry_after_ms: null
  upload_on_active: 400
faults:
  - name: throttled
    count: 2
  - {name: key-disabled, target: sign}
"""


def read(tmp_path: Path, text: str) -> estatefile.EstateFile:
    file = tmp_path / "estate"
    file.write_text(text)
    return estatefile.read(file)


def test_yaml_is_read_with_settings_and_faults(tmp_path: Path) -> None:
    found = read(tmp_path, YAML)
    assert (found.spec.source_hsm, found.spec.required) == ("fabrikam--hsm", 3)
    assert [(one.name, one.versions) for one in found.spec.keys] == [("tde", 2), ("sign", 1)]
    assert found.spec.standalone[0].databases == ("one", "two words")
    assert found.settings == {"create_hsm": 1200, "retry_after_ms": None, "upload_on_active": 400}
    assert found.faults == (
        {"name": "throttled", "count": 2},
        {"name": "key-disabled", "target": "sign"},
    )


def test_json_is_read_and_has_sizes(tmp_path: Path) -> None:
    found = read(tmp_path, '{"scale": {"keys": 5000, "instances": 200, "databases": 5000}}')
    assert len(found.spec.keys) == 5000
    assert 2 * len(found.spec.groups) + len(found.spec.standalone) == 200
    assert sum(len(one.primary.databases) for one in found.spec.groups) == 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys:\n  - name: a\n    siz: 1\n", r":3:5: keys\[0\]\.siz: .*did you mean size"),
        ("keys:\n  - kty: RSA-HSM\n", r":2:5: keys\[0\]: the member 'name' is missing"),
        ("keys:\n- name: a\n  size: 1000\n", r":3:3: keys\[0\]\.size: expected one of 2048"),
        ("keys:\n- {name: a, kty: EC-HSM, crv: P-1}\n", r":2:\d+: keys\[0\]\.crv: "),
        ("keys:\n- {name: a, versions: 101}\n", r"versions: expected a number from 1 to 100"),
        ("keys:\n- name: a b\n", r":2:3: keys\[0\]\.name: expected letters"),
        ("keys: {}\n", r":1:1: keys: expected a list"),
        ("source_hsm: real\n", r":1:1: source_hsm: .*'--'"),
        ("storage_account: real\n", r":1:1: storage_account: .*hyphen"),
        ("custodians: 11\n", r"custodians: expected a number from 3 to 10"),
        ("required: 4\n", r"required: more than the 3 custodians"),
        ("purge_protection: sometimes\n", r"purge_protection: expected true or false"),
        ("groups:\n- name: g\n", r":2:3: groups\[0\]: the member 'primary' is missing"),
        ("scale: {keys: 5001}\n", r":1:9: scale\.keys: expected a number from 1 to 5000"),
        ("scale: {instances: 200, databases: 5}\n", r":1:1: scale: 200 instances need"),
        ("scale: {}\nkeys: []\n", r":2:1: keys: an estate of a scale"),
        ("settings: {create_hsn: 1}\n", r":1:12: settings\.create_hsn: .*did you mean create_hsm"),
        ("settings: {create_hsm: soon}\n", r"settings\.create_hsm: expected a number"),
        ("settings: {upload_on_active: '409'}\n", r"expected one of 409, 400"),
        ("faults:\n- name: nope\n", r":2:3: faults\[0\]: unknown fault 'nope'"),
        ("a: 1\na: 2\n", r"'a' stands twice, in line 2"),
        ("a: &x [*x]\n", r"line 1 has an alias"),
        ("keys: [\n", r":2:1: "),
        ("[1, 2]\n", r":1:1: expected an object"),
        ("", r":1:1: expected an object"),
        ("!!python/object/apply:os.system [x]\n", r":1:1: could not determine"),
        ("keys: " + "[" * 30_000, r"line 1 is nested more than 12 deep"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputFileError, match=message) as refused:
        read(tmp_path, text)
    assert str(tmp_path / "estate") in str(refused.value)
    assert "docs/lab.md" in refused.value.hint


STANDALONE = "standalone:\n- {{name: {}, location: uksouth, databases: {}, key: {}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STANDALONE.format("x", "[a, A]", "app-wrap"), r":2:\d+: .*databases\[1\]: there is a"),
        (STANDALONE.format("x", "[a]", "no-key"), r":2:\d+: standalone\[0\]\.key: the estate has"),
        (STANDALONE.format("SQLMI-B", "[a]", "app-wrap"), r"standalone\[0\]\.name: .*already"),
        (STANDALONE.format("x", "[no]", "app-wrap"), r"the name of a database, found False"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(InputFileError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="none"):
        estatefile.read(tmp_path / "none")
