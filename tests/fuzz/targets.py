"""What is fuzzed: a name, the documents, and what reads them.

A reader may refuse with a `DrError` and may give an answer; where an answer can be
judged, it is. Anything else that leaves a reader is a bug.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ceremonyfire.mutations import NOW, Scene
from hypothesis import strategies as st

from drengine.actions.registry import CATALOGUE
from drengine.actions.sas import sas_facts, sas_problems
from drengine.azure.answers import MAX_RETRY_AFTER_SECONDS, retry_after_seconds, service_error
from drengine.ceremony.blob import inspect_restore_blob
from drengine.ceremony.checking import check_contribution
from drengine.ceremony.contribution import parse_attestation, parse_contribution
from drengine.ceremony.domain import parse_security_domain
from drengine.ceremony.proving import prove
from drengine.ceremony.request import parse_request
from drengine.ceremony.sealing import open_sealed_share
from drengine.ceremony.transcript import Transcript
from drengine.ceremony.unseal import open_domain, open_share
from drengine.engine.fold import fold
from drengine.errors import InputFileError
from drengine.journal import codec, manifest
from drengine.journal.lines import split_lines
from drengine.model.canonical import canonical
from drengine.model.ids import RunId
from drengine.model.records import GENESIS_PREV, Head
from drengine.model.secret import Secret
from drengine.runbook.lint import lint
from drengine.runbook.loader import check, load_runbook
from fuzz.changes import Draw, change, changed_bytes, changed_json, near, written

ROOT = Path(__file__).parents[2]
_JOURNALS = ROOT / "tests" / "replay" / "0.1.0"


@dataclass(frozen=True)
class Target:
    """One reader, with documents for it."""

    name: str
    documents: Callable[[], st.SearchStrategy[Any]]
    read: Callable[[Any], object]


@cache
def scene() -> Scene:
    """One ceremony for all targets that need one; its keys are made once."""
    return Scene()


# --- runbooks


_YAML_WORDS = tuple(
    word.encode()
    for word in (
        *("- ", ": ", "{", "}", "[", "]", "&x ", "*x", "!!map ", "<<: ", "---\n", "...\n", "|\n"),
        *(
            "? ",
            "%YAML 1.1\n",
            "\t",
            "\n  ",
            "'",
            '"',
            "#",
            "${",
            "}",
            "${inputs.x}",
            "0755",
            "1:30",
        ),
        *(
            "\ufeff",
            "\u2028",
            "\x85",
            "foreach: {}\n",
            "when: ",
            "needs: [a]\n",
            "!!python/object ",
        ),
    )
)


def _runbooks() -> st.SearchStrategy[bytes]:
    texts = [
        (ROOT / "runbooks" / f"{name}.yaml").read_bytes()
        for name in ("custodian-rekey", "sqlmi-repoint")
    ]
    docs = [yaml.safe_load(text) for text in texts]
    return st.one_of(
        *(changed_json(doc).map(written) for doc in docs),
        *(changed_bytes(text, _YAML_WORDS) for text in texts),
        st.lists(st.sampled_from(_YAML_WORDS), max_size=60).map(b"".join),
        st.binary(max_size=200),
    )


def _read_runbook(data: bytes) -> None:
    found = check(data, "fuzz.yaml", CATALOGUE)
    runbook = load_runbook(data, "fuzz.yaml", CATALOGUE)
    assert not found, "check and load do not agree"
    lint(runbook, CATALOGUE)


# --- ceremonies


def _domains() -> st.SearchStrategy[bytes]:
    return near(scene().domain.data)


def _read_domain(data: bytes) -> None:
    held = scene()
    parsed = parse_security_domain(data)
    shares = [open_share(parsed, one.certificate, one.key) for one in held.people[:2]]
    parts = {part.tag: part.plaintext for part in open_domain(parsed, shares)}
    known = held.domain.parts
    assert parts == {tag: known[tag] for tag in parts}, "a part holds what was never sealed"


def _shares() -> st.SearchStrategy[bytes]:
    return near(scene().shares[0])


def _read_share(data: bytes) -> None:
    held = scene()
    found = parse_contribution(data)
    check_contribution(found, held.request, now_ms=NOW)
    open_sealed_share(found, held.request, held.one_time_key)
    assert data == held.shares[0], "a changed contribution was opened"


def _transcript() -> bytes:
    held = scene()
    made = Transcript()
    opened = {"request": held.request.to_json(), "digest": held.request.digest}
    made.append("opened", "Olga", opened, NOW)
    for share in held.shares:
        attestation = parse_contribution(share).attestation
        body = {"attestation": attestation.to_json()}
        made.append("contributed", attestation.statement.custodian, body, NOW)
    made.append("closed", "Olga", {"why": "cancelled", "reason": "r"}, NOW)
    return made.to_bytes()


@st.composite
def _forged_transcripts(draw: Draw) -> bytes:
    """A transcript with changed entries whose chain was made right again."""
    made = Transcript()
    for entry in json.loads(_transcript())["entries"]:
        body = change(draw, entry["body"]) if draw(st.booleans()) else entry["body"]
        if not _has_canonical_form(body):
            return written({"entries": [{**entry, "body": body}]})
        made.append(entry["kind"], entry["actor"], body, NOW)
    return made.to_bytes()


def _has_canonical_form(body: Any) -> bool:
    try:
        canonical(body)
    except (ValueError, TypeError):
        return False
    return isinstance(body, dict)


def _messages() -> st.SearchStrategy[tuple[str, bytes]]:
    held = scene()
    attestation = parse_contribution(held.shares[0]).attestation.to_bytes()
    blob = held.join()
    return st.one_of(
        near(held.request.to_bytes()).map(lambda data: ("request", data)),
        near(attestation).map(lambda data: ("attestation", data)),
        near(_transcript()).map(lambda data: ("transcript", data)),
        _forged_transcripts().map(lambda data: ("transcript", data)),
        near(blob).map(lambda data: ("blob", data)),
    )


_MESSAGES: Mapping[str, Callable[[bytes], object]] = {
    "request": parse_request,
    "attestation": parse_attestation,
    "transcript": prove,
    "blob": inspect_restore_blob,
}


def _read_message(message: tuple[str, bytes]) -> None:
    kind, data = message
    _MESSAGES[kind](data)


# --- journals


@cache
def _journal() -> list[dict[str, Any]]:
    packed = (_JOURNALS / "r-058062c9ef3b~repoint~groups~sqlmi-c.jsonl.gz").read_bytes()
    return [json.loads(line) for line in gzip.decompress(packed).splitlines()]


def _lines(docs: list[Any]) -> bytes:
    return b"".join(written(doc) + b"\n" for doc in docs)


@st.composite
def _forged_journals(draw: Draw) -> bytes:
    """A journal with changed bodies whose hashes were made right again, as a forger would."""
    docs = [dict(doc) for doc in _journal()[: draw(st.integers(2, 20))]]
    chosen = draw(st.sets(st.integers(0, len(docs) - 1), min_size=1, max_size=3))
    prev, lines = GENESIS_PREV, []
    for seq, doc in enumerate(docs):
        if seq in chosen:
            body = change(draw, json.loads(json.dumps(doc["body"])))
            doc["body"] = body if isinstance(body, dict) else {}
        line = written({**doc, "prev": prev}) + b"\n"
        prev = hashlib.sha256(line).hexdigest()
        lines.append(line)
    return b"".join(lines)


def _journals() -> st.SearchStrategy[bytes]:
    few = _journal()[:8]
    return st.one_of(
        _forged_journals(),
        changed_json(few).map(lambda docs: _lines(docs) if isinstance(docs, list) else b""),
        changed_bytes(_lines(few), [b"\n", b'"prev":', b"{", b"\x00"]),
        st.binary(max_size=300),
    )


def _read_journal(data: bytes) -> None:
    fold(codec.records_of(split_lines(io.BytesIO(data))))


def _manifests() -> st.SearchStrategy[bytes]:
    run, plan = RunId("r-0123456789ab"), "plan"
    whole = manifest.Manifest(
        (manifest.JournalEntry(run, "t", "drill", NOW, Head(3, "0" * 64)),),
        (manifest.DocumentEntry(run, plan, "2" * 64),),
        ("1" * 64,),
    ).to_bytes()
    return near(whole).map(lambda data: data if data.endswith(b"\n") else data + b"\n")


def _read_manifest(data: bytes) -> None:
    try:
        manifest.parse(data)
    except ValueError as error:  # what `parse` says it raises; its one caller names the file
        raise InputFileError(str(error)) from error


# --- answers of services


_NUMBERS = (
    *(
        "0",
        "1",
        "30",
        "-1",
        "1.5",
        "1e3",
        "1e400",
        "-1e400",
        "nan",
        "inf",
        "0x10",
        "\uff11",
        "9" * 400,
    ),
    *("", " ", "+5", "5 ", "1_000", "∞", "-0", "1" * 5000),
)
_DATES = (
    "Sun, 22 Nov 2026 10:00:00 GMT",
    "Sun, 22 Nov 2026 10:00:00 +0000",
    "Sunday, 22-Nov-26 10:00:00 GMT",
    "Sun Nov 22 10:00:00 2026",
    "2026-11-22T10:00:00Z",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
)
_DATE_WORDS = (
    b"99999999999",
    b"-",
    b"+9999",
    b"+99999999999999999999",
    b":",
    b"GMT",
    b",",
    b" ",
    b"\x00",
)


def _values() -> st.SearchStrategy[str]:
    changed = st.one_of(
        *(
            changed_bytes(date.encode(), _DATE_WORDS).map(lambda b: b.decode("utf-8", "replace"))
            for date in _DATES
        )
    )
    return st.one_of(st.sampled_from([*_NUMBERS, *_DATES]), changed, st.text(max_size=40))


def _headers() -> st.SearchStrategy[dict[str, str]]:
    names = st.sampled_from(["retry-after", "retry-after-ms", "x-ms-retry-after-ms", "date"])
    return st.dictionaries(names, _values(), max_size=3)


def _read_headers(headers: dict[str, str]) -> None:
    found = retry_after_seconds(headers)
    assert found is None or 0 <= found <= MAX_RETRY_AFTER_SECONDS, f"{found} seconds"


def _bodies() -> st.SearchStrategy[bytes]:
    json_error = canonical(
        {"error": {"code": "Throttled", "message": "m", "innererror": {"code": "x"}}}
    )
    xml_error = (
        b'<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code><Message>m</Message></Error>'
    )
    return st.one_of(
        near(json_error), changed_bytes(xml_error, [b"<Message>", b"</Message>", b"\xff"])
    )


def _read_body(body: bytes) -> None:
    code, message = service_error(body, {})
    assert isinstance(code, str)
    assert isinstance(message, str)


_SAS = b"sv=2021-12-02&sp=rcwdl&st=2026-11-22T10:00:00Z&se=2026-11-23T10:00:00Z&sr=c&spr=https&sig=ab%2Bc%3D"
_SAS_WORDS = (
    *(
        b"&",
        b"=",
        b"%",
        b"%00",
        b"%ff",
        b"se=",
        b"&se=0001-01-01T00:00:00%2B23:59",
        b"&sp=",
        b"?",
        b";",
    ),
    *(
        b"&se=9999-12-31T23:59:59-23:59",
        b"&st=9999-12-31T23:59:59-23:59",
        b"+",
        b"&sig=",
        b"T",
        b"Z",
    ),
    *(b"2026-W01", b"20261122T100000,5Z", b"&se=2026-11-23"),
)


def _tokens() -> st.SearchStrategy[str]:
    return st.one_of(
        changed_bytes(_SAS, _SAS_WORDS).map(lambda data: data.decode("utf-8", "surrogateescape")),
        st.text(max_size=60),
    )


def _read_token(token: str) -> None:
    facts = sas_facts(Secret(token))
    told = sas_problems(facts, "crdwl", NOW, 3_600_000)
    assert all(isinstance(one, str) for one in told)
    canonical(facts)


TARGETS = (
    Target("runbook", _runbooks, _read_runbook),
    Target("security domain", _domains, _read_domain),
    Target("share", _shares, _read_share),
    Target("ceremony messages", _messages, _read_message),
    Target("journal", _journals, _read_journal),
    Target("journal manifest", _manifests, _read_manifest),
    Target("Retry-After", _headers, _read_headers),
    Target("service error", _bodies, _read_body),
    Target("SAS", _tokens, _read_token),
)
