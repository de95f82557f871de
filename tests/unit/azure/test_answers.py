"""Reading errors and waits out of answers."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drengine.azure.answers import (
    Answer,
    is_service_error,
    place_text,
    redacted,
    retry_after_seconds,
    service_error,
    without,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "5"}, 5),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "40"}, 0.04),
        ({"x-ms-retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, None),
        ({"retry-after": "Sun, 22 Nov 2036 12:00:00 GMT"}, 600),
        (
            {
                "retry-after": "Sun, 22 Nov 2026 12:00:30 GMT",
                "date": "Sun, 22 Nov 2026 12:00:10 GMT",
            },
            20,
        ),
        ({"retry-after": "1000000000"}, 600),
        ({"retry-after": "inf"}, 600),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_a_wait_is_understood_and_bounded(headers, seconds):
    assert retry_after_seconds(headers, NOW) == seconds


def test_errors_of_all_services_are_understood():
    arm = b'{"error": {"code": "ConflictError", "message": "taken\\nalready"}}'
    assert service_error(arm, {}) == ("ConflictError", "taken already")
    blob = b"<?xml version='1.0'?><Error><Code>X</Code><Message>No\nsuch</Message></Error>"
    headers = {"x-ms-error-code": "ContainerNotFound"}
    assert service_error(blob, headers) == ("ContainerNotFound", "No such")
    assert service_error(b"", {}) == ("", "")
    assert service_error(b"<html>proxy</html>", {}) == ("", "")
    assert service_error(b'{"error": null}', {}) == ("", "")
    assert service_error(b'{"error": {"code": null, "message": null}}', {}) == ("", "")
    assert service_error(b'{"error": "invalid_client"}', {}) == ("", "invalid_client")


@pytest.mark.parametrize(
    "text",
    [
        "url https://a/c?sv=1&sig=HIDE%3D&se=2",
        "sig%3DHIDE and more",
        "Authorization: Bearer HIDE.me",
        '"token": "HIDE"',
        "jwt eyJhbGciOiJub25lIn0.HIDE.",
        "client_secret=HIDE",
        "ClientHttpProxyError: 407, url='http://me:HIDE@127.0.0.1:3128'",
    ],
)
def test_what_looks_like_a_secret_is_masked(text):
    assert "HIDE" not in redacted(text)


def test_a_quote_is_one_short_line():
    assert redacted("a\n b") == "a b"
    assert len(redacted("x" * 10_000)) <= 501


@pytest.mark.parametrize(
    ("body", "is_readable"), [(b"", True), (b"{}", True), (b"[]", False), (b"<p>", False)]
)
def test_an_answer_is_readable_where_it_is_empty_or_an_object(body, is_readable):
    assert Answer(200, {}, body).is_readable() is is_readable


def test_a_date_with_numbers_beyond_any_calendar_is_no_wait():
    for number in ("99999999999999999999", "-99999999999999999999"):
        told = {"retry-after": f"Mon, 01 Jan {number} 00:00:00 GMT"}
        assert retry_after_seconds(told) is None


def test_a_body_that_is_nested_too_deeply_is_no_json_and_no_error_of_the_interpreter():
    deep = b'{"error":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert service_error(deep, {"x-ms-error-code": "Busy"}) == ("Busy", "")
    assert not Answer(200, {}, deep).is_readable()


SIGNATURE = "AbCd+Ef/0123456789SECRETabcdefghijklmnopqrs="
SAS = f"sv=2021-12-02&sr=c&sp=crdwl&se=2026-12-02T00:00:00Z&sig={quote(SIGNATURE, safe='')}"
URL = f"https://a.blob.core.windows.net/c?{SAS}"
ENCODINGS = {
    "plain": lambda text: text,
    "quoted": lambda text: quote(text, safe=""),
    "quoted twice": lambda text: quote(quote(text, safe=""), safe=""),
    "quoted thrice": lambda text: quote(quote(quote(text, safe=""), safe=""), safe=""),
    "quoted in lower case": lambda text: re.sub(
        "%..", lambda found: found[0].lower(), quote(text, safe="")
    ),
    "unquoted": unquote,
    "json": lambda text: json.dumps({"u": text}),
    "json in json": lambda text: json.dumps(json.dumps({"u": text})),
    "json for javascript": lambda text: text.replace("&", "\\u0026").replace("=", "\\u003d"),
    "html": html.escape,
    "html twice": lambda text: html.escape(html.escape(text)),
    "html by numbers": lambda text: re.sub(r"\W", lambda sign: f"&#{ord(sign[0])};", text),
    "html in hexadecimal": lambda text: re.sub(r"\W", lambda sign: f"&#x{ord(sign[0]):X};", text),
    "repr": lambda text: repr(text.encode()).replace("&", "\\x26").replace("=", "\\x3d"),
}
encodings = st.lists(st.sampled_from(sorted(ENCODINGS)), min_size=1, max_size=2)


def encoded(text, names):
    for name in names:
        text = ENCODINGS[name](text)
    return text


def parts_shown(shown):
    """Return the parts of the signature that a text still shows, plain letters being the same."""
    return [part for part in ("0123456789", "SECRETabc", "mnopqrs") if part in shown]


@given(names=encodings, before=st.sampled_from(["", "cannot use url=", "{'a': ", "see "]))
def test_a_signature_is_masked_in_every_encoding(names, before):
    assert parts_shown(redacted(before + encoded(URL, names))) == []


@given(names=encodings, secret=st.sampled_from([URL, SAS, SIGNATURE]), cut=st.integers(0, 12))
def test_a_known_secret_is_masked_in_every_encoding_and_without_its_name(names, secret, cut):
    said = f"the value {encoded(secret, names)} is not good"
    whole = said if cut == 0 else said[: -(cut + 12)]
    assert parts_shown(without([SAS], whole)) == []


@pytest.mark.parametrize(
    "text",
    [
        "https://user:p@HIDE@proxy:1/",
        "SharedKey acct:HIDE=",
        "signature=HIDE",
        "AccountKey=HIDE==",
        "X%26sig%3dHIDE",
        "sig&quot;:&quot;HIDE",
        "sig=&#72;HIDE",
    ],
)
def test_more_that_looks_like_a_secret_is_masked(text):
    assert "HIDE" not in redacted(text)


@pytest.mark.parametrize("text", ["design: a", "oversight: b", "The status is: c", "a:b = c"])
def test_what_is_no_secret_is_shown(text):
    assert redacted(text) == text


def test_a_code_is_short_and_shows_no_secret():
    body = json.dumps({"error": {"code": f"Bad {URL}" + "X" * 3000}}).encode()
    code, _ = service_error(body, {})
    assert (parts_shown(code), len(code) <= 100) == ([], True)
    code, _ = service_error(b"no JSON", {"x-ms-error-code": f"Bad {URL}"})
    assert parts_shown(code) == []
    assert len(Answer(200, {"x-ms-request-id": "x" * 9000}, b"").request_id) == 100


def test_a_place_is_named_without_what_opens_it():
    folder = "https://a.blob.core.windows.net/c/mhsm-x-2026120106463630"
    assert place_text(f"{folder}?{SAS}#x") == folder
    assert place_text("https://u:HIDE@a.blob.core.windows.net/c") == folder.rpartition("/")[0]
    assert parts_shown(place_text(quote(f"{folder}?{SAS}", safe=""))) == []
    assert (place_text(None), place_text("https://[bad")) == ("", "")


@pytest.mark.parametrize(
    ("body", "headers", "is_error"),
    [
        (b'{"error": {"code": "X"}}', {}, True),
        (b'{"code": "503", "message": "m"}', {}, True),
        (b"<Error><Code>X</Code></Error>", {}, True),
        (b"", {"x-ms-error-code": "X"}, True),
        (b"", {"x-ms-request-id": "1"}, True),
        (b"", {}, False),
        (b"<html>no</html>", {"x-ms-request-id": "1"}, False),
        (b'{"message": "no route"}', {}, False),
        (b'{"error": "invalid_client"}', {}, False),
    ],
)
def test_a_service_names_a_code(body, headers, is_error):
    assert is_service_error(body, headers) is is_error
