"""What a disclosure shows can be checked against the seal, and anything changed in it is seen."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from drengine.errors import InputError, VerificationError
from drengine.evidence.bundle import ATTESTATION, statement_of
from drengine.evidence.disclosure import DISCLOSURE, PROFILES, check_disclosure, disclose
from drengine.evidence.merkle import Proofs, Tree, leaf_hash, root_from
from drengine.evidence.readme import README
from drengine.evidence.seal import VERIFIER
from drengine.evidence.sealed import verify_bundle
from drengine.model.canonical import canonical
from drengine.resources import template_folder
from drengine.trust.register import read_trust
from drengine.trust.signers import signed


@pytest.fixture(scope="module")
def trust(cast):
    return read_trust(cast.trust)


@pytest.fixture
def shown(honest, tmp_path):
    """A disclosure for an auditor, which a test may change."""
    return disclose(honest, "auditor", tmp_path / "shown")


def changed(folder, change):
    file = folder / DISCLOSURE
    doc = json.loads(file.read_bytes())
    change(doc)
    file.write_bytes(canonical(doc) + b"\n")
    return folder


def test_a_tree_asked_for_its_root_while_it_grows_has_the_root_of_its_leaves_so_far():
    leaves, tree = [b"leaf %d" % number for number in range(2_100)], Tree()
    assert tree.root() == hashlib.sha256(b"").hexdigest()
    for count, leaf in enumerate(leaves, 1):
        tree.add(leaf)
        if count % 97 == 0 or count in (1, 1023, 1024, 1025, 2048, 2100):
            assert tree.root() == Tree(leaves[:count]).root()


@pytest.mark.parametrize("size", [*range(1, 18), 33, 1024, 1025, 2085])
def test_every_leaf_of_a_tree_has_a_path_to_its_root(size):
    leaves = [b"leaf %d" % number for number in range(size)]
    proofs, root = Proofs([leaf_hash(leaf) for leaf in leaves]), Tree(leaves).root()
    assert [root_from(leaf, n, size, proofs.of(n)) for n, leaf in enumerate(leaves)] == [
        root
    ] * size


def test_a_profile_shows_its_records_and_the_seal_bears_them_out(honest, tmp_path, trust):
    found = {}
    for profile in PROFILES:
        folder = disclose(honest, profile, tmp_path / profile)
        found[profile] = check_disclosure(folder, trust)
        assert found[profile]["profile"] == profile
    counts = [found[profile]["shown"] for profile in ("regulator", "auditor", "internal")]
    assert 0 < counts[0] < counts[1] < counts[2] == found["internal"]["of"]
    assert (found["auditor"]["class"], found["auditor"]["lab"]) == ("drill", True)


def test_chosen_records_are_shown_alone_and_under_no_profile(honest, tmp_path, trust):
    run = honest.name
    folder = disclose(honest, "auditor", tmp_path / "two", (f"{run}:0", f"{run}:3"))
    found = check_disclosure(folder, trust)
    assert (found["shown"], found["profile"]) == (2, None)
    lines = [row["line"] for row in json.loads((folder / DISCLOSURE).read_bytes())["records"]]
    assert [json.loads(line)["seq"] for line in lines] == [0, 3]


def test_a_record_that_is_not_there_leaves_nothing_behind(honest, tmp_path):
    with pytest.raises(InputError, match="there is no record nobody:1"):
        disclose(honest, "auditor", tmp_path / "out", (f"{honest.name}:0", "nobody:1"))
    assert not (tmp_path / "out").exists()


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a sealed bundle"):
        disclose(tmp_path, "auditor", tmp_path / "out")


def _reworded(doc):
    doc["records"][0]["line"] = doc["records"][0]["line"].replace("drill", "trill", 1)


def _moved(doc):
    doc["records"][0]["index"] += 1


def _fewer(doc):
    doc["size"] -= 1


def _shortened(doc):
    doc["records"][0]["path"].pop()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_reworded, "is not part of what was sealed"),
        (_moved, "is not part of what was sealed"),
        (_fewer, "sealed|path|leaf"),
        (_shortened, "sealed|path"),
        (lambda doc: doc.update(schema="other/v1"), "is not of the kind"),
        (lambda doc: doc.pop("profile"), "it lacks 'profile'"),
        (lambda doc: doc.update(records=[7]), "checking"),
    ],
)
def test_whatever_is_changed_in_a_disclosure_is_seen_by_both_verifiers(
    shown, trust, change, told, alone, cast
):
    with pytest.raises(VerificationError, match=told) as refused:
        check_disclosure(changed(shown, change), trust)
    assert "do not rely on it" in refused.value.message
    found = alone(shown, cast.trust)
    assert (found.returncode, "FAILED" in found.stdout) == (9, True)


def test_whoever_gets_a_disclosure_needs_only_what_lies_in_it(shown, trust, cast, alone):
    found = check_disclosure(shown, trust)
    assert (shown / VERIFIER).read_bytes() == (template_folder() / VERIFIER).read_bytes()
    said = (shown / README).read_text()
    assert said.startswith("DRILL ")
    assert "LAB: simulated Azure" in said
    assert f"{found['shown']} of {found['of']} records are shown" in said
    checked = alone(shown, cast.trust)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"OK  DRILL in a LAB {found['run']}" in checked.stdout
    assert f"{found['shown']} of {found['of']} records are here" in checked.stdout
    for row in found["records"]:
        place = f'["{row["run"]}", {row["seq"]}, "{row["at"]}", "{row["type"]}"'
        assert place in checked.stdout


def test_a_record_that_is_not_proved_is_not_listed(shown, cast, alone):
    def forge(doc):
        doc["records"][1]["line"] = doc["records"][1]["line"].replace('"type":"', '"type":"forged.')

    told = alone(changed(shown, forge), cast.trust).stdout
    assert "FAILED  disclosure.json: the record at place" in told
    assert "run.created" in told
    assert "forged." not in told


def test_a_readme_that_says_something_else_is_refused_and_one_that_is_gone_is_not(shown, trust):
    readme = shown / README
    readme.write_text(readme.read_text().replace("DRILL", "INCIDENT", 1))
    with pytest.raises(VerificationError, match=r"README\.txt is not the one of this disclosure"):
        check_disclosure(shown, trust)
    readme.unlink()
    assert check_disclosure(shown, trust)["class"] == "drill"


def test_a_seal_by_a_key_that_was_revoked_does_not_count(shown, forger, alone):
    forger.trust(lambda doc: doc["sealers"][0].update(revoked="2026-01-01T00:00:00.000Z"))
    with pytest.raises(VerificationError, match="by a key that the trust folder has revoked"):
        check_disclosure(shown, read_trust(forger.cast.trust))
    assert "is signed with a revoked key" in alone(shown, forger.cast.trust).stdout


def test_a_seal_over_something_that_is_no_run_does_not_count(shown, trust, cast, alone):
    statement = json.loads(statement_of(b"", b"", {}))
    statement["predicateType"] = "urn:another"
    envelope = signed(canonical(statement), cast.sealer)
    (shown / ATTESTATION).write_bytes(canonical(envelope.to_json()) + b"\n")
    with pytest.raises(VerificationError, match="what is sealed is not a run"):
        check_disclosure(shown, trust)
    assert "says other things than a sealed run does" in alone(shown, cast.trust).stdout


def test_a_disclosure_that_hides_how_much_it_withholds_is_refused(shown, trust):
    def nothing_but_a_smaller_size(doc):
        doc.update(records=[], size=doc["size"] - 1)

    with pytest.raises(VerificationError, match="counts other records than were sealed"):
        check_disclosure(changed(shown, nothing_but_a_smaller_size), trust)


def test_a_record_shown_twice_counts_once(shown, trust):
    before = check_disclosure(shown, trust)["shown"]
    changed(shown, lambda doc: doc["records"].append(doc["records"][0]))
    assert check_disclosure(shown, trust)["shown"] == before


def test_a_seal_by_a_key_that_is_not_trusted_does_not_count(shown, trust, make_bundle, cast):
    stranger = cast.keys[next(iter(cast.keys))]
    other = make_bundle(shown.parent / "other", signer=stranger)
    shutil.copy(other / ATTESTATION, shown / ATTESTATION)
    with pytest.raises(VerificationError, match="not by a key of the trust folder"):
        check_disclosure(shown, trust)


def _a_report(folder):
    (folder / "report.html").write_text("<p>recovered</p>")


def _a_link(folder):
    (folder / "report.html").symlink_to("/etc/hostname")


def _a_journal(folder):
    (folder / "more").mkdir()
    (folder / "more" / "r.jsonl").write_text("{}\n")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (_a_report, "report.html: is not a file that a disclosure has"),
        (_a_link, "report.html: is a symbolic link"),
        (_a_journal, "more/r.jsonl: is not a file that a disclosure has"),
    ],
)
def test_what_a_disclosure_does_not_have_is_refused_by_both(shown, trust, more, told, alone, cast):
    more(shown)
    with pytest.raises(VerificationError, match=told):
        check_disclosure(shown, trust)
    found = alone(shown, cast.trust)
    assert found.returncode == 9
    assert told in found.stdout


def test_a_disclosure_beside_a_damaged_bundle_does_not_stand_for_it(forger, shown, alone):
    """Whoever has no key at all may lay a good disclosure into a bundle that was changed."""
    shutil.copy(shown / DISCLOSURE, forger.path / DISCLOSURE)
    forger.edit("facts.json", b'"recovered"', b'"not it"')
    with pytest.raises(VerificationError, match="is not a file that a disclosure has"):
        check_disclosure(forger.path, read_trust(forger.cast.trust))
    told = [
        str(each) for each in verify_bundle(forger.path, read_trust(forger.cast.trust)).problems
    ]
    found = alone(forger.path, forger.cast.trust)
    assert found.returncode == 9
    for words in ("facts.json", "disclosure.json: is not named in SHA256SUMS"):
        assert any(words in each for each in told), told
        assert words in found.stdout


@pytest.mark.parametrize("left", ["manifest.json", "SHA256SUMS", "journals"])
def test_anything_left_of_a_bundle_makes_the_folder_one(shown, honest, alone, cast, left):
    if left == "journals":
        shutil.copytree(honest / left, shown / left)
    else:
        shutil.copy(honest / left, shown / left)
    found = alone(shown, cast.trust)
    assert found.returncode == 9
    assert "records are here, the rest withheld" not in found.stdout


def test_another_verifier_in_a_disclosure_is_said(shown, trust, cast, alone):
    assert check_disclosure(shown, trust)["notes"] == []
    (shown / VERIFIER).write_text("print('OK')")
    (note,) = check_disclosure(shown, trust)["notes"]
    assert "verify.py is not the one of this drengine" in note
    assert "verify.py beside them were not compared" in alone(shown, cast.trust).stdout
