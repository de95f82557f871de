"""Reading errors and waits out of answers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from drengine.azure.answers import Answer, redacted, retry_after_seconds, service_error

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
