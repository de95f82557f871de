"""`combine` with its real child process, and what it refuses."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from drengine.ceremony import combine as combine_module
from drengine.ceremony.combine import KeySource, combine
from drengine.ceremony.messages import read_answer
from drengine.errors import (
    CeremonyError,
    DomainError,
    InputFileError,
    InternalError,
    QuorumError,
    ShareError,
)

ROOT = Path(__file__).parents[3]


def run(folder, *names, passphrases=None, **options):
    passphrases = passphrases or {}
    keys = [KeySource(folder / "keys" / name, None, passphrases.get(name)) for name in names]
    return combine(
        folder / "sd.json", folder / "exchange.cer", keys, folder / "blob.json", **options
    )


def refused(kind, folder, *names, **options):
    with pytest.raises(kind) as caught:
        run(folder, *names, **options)
    assert type(caught.value) is kind
    assert not (folder / "blob.json").exists()
    return caught.value


def test_a_quorum_gives_a_blob_that_the_new_hsm_opens(ceremony_files, domain, exchange, writer):
    report = run(ceremony_files, "1.key", "3.key")
    blob = ceremony_files / "blob.json"
    assert writer.open_blob(blob.read_bytes(), exchange) == domain.parts
    assert stat.S_IMODE(blob.stat().st_mode) == 0o600
    assert report.blob_size_bytes == blob.stat().st_size
    assert report.exchange_x5t_256 == exchange.x5t
    assert report.exchange_subject == "CN=custodian 99"
    assert [used.x5t_256 for used in report.custodians] == [
        domain.people[0].x5t,
        domain.people[2].x5t,
    ]
    assert {(u.holder, u.key_encrypted, u.matched_by) for u in report.custodians} == {
        ("pem", False, "certificate")
    }
    assert report.core_dumps_off
    assert report.not_dumpable is (sys.platform == "linux")
    assert 1 <= report.plain_milliseconds < 60_000


def test_the_report_is_json_and_says_nothing_secret(ceremony_files, domain):
    text = json.dumps(run(ceremony_files, "1.key", "2.key").to_json())
    assert json.loads(text)["schema"] == "drengine/ceremony-combine/v1"
    for secret in (domain.master, *domain.parts.values()):
        assert secret.hex() not in text


def test_encrypted_keys_and_a_missing_certificate_are_fine(
    ceremony_files, people, domain, exchange, writer
):
    keys = ceremony_files / "keys"
    (keys / "1.key").write_bytes(people[0].key_pem(b"one"))
    (keys / "2.cer").unlink()
    report = run(ceremony_files, "1.key", "2.key", passphrases={"1.key": b"one"})
    assert [(u.key_encrypted, u.matched_by) for u in report.custodians] == [
        (True, "certificate"),
        (False, "trial"),
    ]
    blob = (ceremony_files / "blob.json").read_bytes()
    assert writer.open_blob(blob, exchange) == domain.parts


def test_relative_paths_work(ceremony_files, monkeypatch):
    monkeypatch.chdir(ceremony_files)
    run(Path(), "1.key", "2.key")
    assert (ceremony_files / "blob.json").exists()


def test_too_few_keys_are_refused(ceremony_files):
    error = refused(QuorumError, ceremony_files, "1.key")
    assert "needs the keys of 2 of its 3 custodians; 1 given" in error.message
    assert "1 more" in error.hint


def test_too_few_keys_are_refused_before_a_key_file_is_opened(ceremony_files):
    error = refused(QuorumError, ceremony_files, "absent.key")
    assert "1 given" in error.message


def test_the_same_file_twice_is_refused(ceremony_files):
    assert "same key file" in refused(QuorumError, ceremony_files, "1.key", "1.key").message
    (ceremony_files / "keys" / "hard.key").hardlink_to(ceremony_files / "keys" / "1.key")
    assert "same key file" in refused(QuorumError, ceremony_files, "1.key", "hard.key").message


@pytest.mark.parametrize("with_certificate", [False, True])
def test_a_copy_of_a_key_is_the_same_custodian(ceremony_files, people, with_certificate):
    keys = ceremony_files / "keys"
    shutil.copy2(keys / "1.key", keys / "copy.key")
    if with_certificate:
        shutil.copy2(keys / "1.cer", keys / "copy.cer")
    message = refused(QuorumError, ceremony_files, "1.key", "2.key", "copy.key").message
    assert "1.key" in message
    assert "copy.key" in message
    assert f"same custodian, x5t#S256 {people[0].x5t}" in message


def test_a_key_of_a_stranger_is_named_by_file_and_thumbprint(ceremony_files, people):
    error = refused(ShareError, ceremony_files, "1.key", "4.key")
    assert error.message.startswith(f"{ceremony_files / 'keys' / '4.key'}: ")
    assert people[3].x5t in error.message


def test_a_key_beside_the_certificate_of_another_is_refused(ceremony_files, people):
    keys = ceremony_files / "keys"
    shutil.copy2(keys / "1.cer", keys / "2.cer")
    error = refused(ShareError, ceremony_files, "1.key", "2.key")
    assert "2.key: the private key does not belong to its certificate" in error.message
    assert people[0].x5t in error.message


def test_passphrases_are_refused_by_their_file(ceremony_files, people):
    (ceremony_files / "keys" / "1.key").write_bytes(people[0].key_pem(b"one"))
    error = refused(ShareError, ceremony_files, "1.key", "2.key")
    assert "1.key: the key is encrypted" in error.message
    error = refused(ShareError, ceremony_files, "1.key", "2.key", passphrases={"1.key": b"two"})
    assert "1.key: the passphrase is wrong" in error.message


def test_a_tampered_domain_is_refused(ceremony_files, domain, writer):
    entry = domain.document["EncData"]["data"][2]
    entry["compact_jwe"] = writer.flip(entry["compact_jwe"], 2, 0, 1)
    (ceremony_files / "sd.json").write_bytes(domain.data)
    error = refused(DomainError, ceremony_files, "1.key", "2.key")
    assert "part 'partition_enclave_backup'" in error.message


def test_a_wrong_share_is_named_with_its_key_file(ceremony_files, domain, writer):
    other = writer.write_domain(domain.people, 2)
    entry = domain.document["SharedKeys"]["enc_shares"][1]
    words = writer.share_words(other.polynomials, 2)
    entry["enc_key"] = writer.seal_rsa(words, domain.people[1].key.public_key())
    (ceremony_files / "sd.json").write_bytes(domain.data)
    error = refused(ShareError, ceremony_files, "1.key", "2.key", "3.key")
    assert domain.people[1].x5t in error.message
    assert "2.key" in error.message
    assert "3.key" not in error.message


def test_an_exchange_certificate_that_is_none_is_refused(ceremony_files):
    (ceremony_files / "exchange.cer").write_bytes(b"words")
    error = refused(InputFileError, ceremony_files, "1.key", "2.key")
    assert "exchange certificate" in error.message
    assert "init-recovery" in error.hint


def test_a_custodians_own_certificate_is_no_exchange_certificate(ceremony_files, people):
    """Whoever is named there opens the whole domain: at three in the morning files look alike."""
    (ceremony_files / "exchange.cer").write_bytes(people[0].certificate_pem)
    error = refused(CeremonyError, ceremony_files, "1.key", "2.key")
    assert "one person could open all of it" in error.message


def test_an_existing_output_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "blob.json").write_bytes(b"old")
    with pytest.raises(InputFileError, match="exists already"):
        run(tmp_path, "1.key", "2.key")
    assert (tmp_path / "blob.json").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["sd.json", "exchange.cer"])
def test_an_absent_input_is_named(ceremony_files, name):
    (ceremony_files / name).unlink()
    assert f"{name}: No such file" in refused(InputFileError, ceremony_files, "1.key").message


def test_open_permissions_are_refused_until_accepted(ceremony_files):
    (ceremony_files / "keys" / "1.key").chmod(0o644)
    assert "0644" in refused(ShareError, ceremony_files, "1.key", "2.key").message
    run(ceremony_files, "1.key", "2.key", accept_open_permissions=True)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL"),
        ("import nothing_of_this_name", "ended with status 1"),
        ("print('{')", "broke off"),
        ("pass", "broke off"),
        ("print('{}')", "broke off"),
    ],
)
def test_a_child_without_answer_is_no_success(ceremony_files, monkeypatch, start, message):
    monkeypatch.setattr(combine_module, "_START", start)
    assert message in refused(CeremonyError, ceremony_files, "1.key", "2.key").message


def test_a_child_that_hangs_is_ended(ceremony_files, monkeypatch):
    monkeypatch.setattr(combine_module, "_START", "import time; time.sleep(60)")
    monkeypatch.setattr(combine_module, "_CHILD_SECONDS", 0.2)
    assert "did not answer" in refused(CeremonyError, ceremony_files, "1.key").message


def test_an_unknown_kind_of_error_is_an_internal_one():
    answer = b'{"error": {"kind": "Exit", "message": "m", "hint": "h"}}'
    with pytest.raises(InternalError, match="m"):
        read_answer(answer)


WATCHED = """
import json, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from pathlib import Path
from drengine.ceremony.combine import KeySource, combine
folder = Path(sys.argv[1])
keys = [KeySource(folder / "keys" / f"{n}.key", None, None) for n in (1, 2)]
combine(folder / "sd.json", folder / "exchange.cer", keys, folder / "blob.json")
assert "cryptography" not in sys.modules
print(json.dumps(opened))
"""


def test_the_parent_opens_the_inputs_but_never_a_key_file(ceremony_files):
    watched = subprocess.run(
        [sys.executable, "-c", WATCHED, str(ceremony_files)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    opened = [Path(name).name for name in json.loads(watched.stdout)]
    assert {"sd.json", "exchange.cer"} <= set(opened)
    assert not [name for name in opened if name.endswith(".key")]
    assert not [name for name in opened if name in {"1.cer", "2.cer"}]
    assert (ceremony_files / "blob.json").exists()


PROBED = """
import sys
from pathlib import Path
from drengine.ceremony.combine import KeySource, combine
folder = Path(sys.argv[1])
keys = [KeySource(folder / "keys" / f"{n}.key", None, None) for n in (1, 2)]
combine(folder / "sd.json", folder / "exchange.cer", keys, folder / "blob.json")
print("ready", flush=True)
sys.stdin.read()
"""


def memory_of(pid):
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            (
                area,
                rights,
                *_,
            ) = line.split()
            if not rights.startswith("r") or "[v" in line:
                continue
            start, end = (int(part, 16) for part in area.split("-"))
            memory.seek(start)
            yield memory.read(end - start)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/PID/mem")
def test_no_secret_is_in_the_parents_memory_afterwards(ceremony_files, domain):
    first = domain.people[0].key.private_numbers()
    secrets_of_it = {
        "a plain part": domain.parts["hsm_backup"][:32],
        "the master key": domain.master,
        "a share": b"".join(
            ((1 << 9) + sum(c * 1**i for i, c in enumerate(p)) % 257).to_bytes(2, "little")
            for p in domain.polynomials
        ),
        "a prime": first.p.to_bytes(128, "big"),
        "a prime, little endian": first.p.to_bytes(128, "little"),
        "a key file": (ceremony_files / "keys" / "1.key").read_bytes()[200:260],
    }
    with subprocess.Popen(
        [sys.executable, "-c", PROBED, str(ceremony_files)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout.readline() == b"ready\n"
        memory = b"".join(memory_of(parent.pid))
        parent.stdin.close()
    # The probe sees what is there: the exchange certificate went through this process.
    assert (ceremony_files / "exchange.cer").read_bytes()[100:160] in memory
    assert [name for name, secret in secrets_of_it.items() if secret in memory] == []
