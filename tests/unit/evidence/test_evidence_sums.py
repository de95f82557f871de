from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drengine.evidence.sums import is_safe_name, read_sums, write_sums

A, B = "a" * 64, "b" * 64


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9~][a-z0-9._~-]{0,8}(/[a-z0-9][a-z0-9.]{0,5})?", fullmatch=True),
        st.sampled_from([A, B]),
    )
)
def test_what_is_written_is_read_again(digests):
    if digests:
        assert read_sums(write_sums(digests)) == digests


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "a/../b",
        "a//b",
        "",
        ".hidden",
        "a\\b",
        "a\nb",
        "näme",
        "a b",
        "a/.b",
        "x" * 300,
        "./a",
        "a/",
    ],
)
def test_a_name_that_could_mean_something_else_is_not_safe(name):
    assert not is_safe_name(name)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (f"{A}  a\r\n".encode(), "line 1"),
        (f"\\{A}  a\n".encode(), "line 1"),
        (f"{A}  ../a\n".encode(), "line 1"),
        (f"{A} *a\n".encode(), "line 1"),
        (f"{A.upper()}  a\n".encode(), "line 1"),
        (f"{A}  a\n{B}  a\n".encode(), "second time"),
        (f"{A}  A\n{B}  a\n".encode(), "second time"),
        (f"{B}  b\n{A}  a\n".encode(), "order of names"),
        (f"{A}  a".encode(), "order of names"),
        (f"{A}  a\n\n".encode(), "line 2"),
        (f"{A}  SHA256SUMS\n".encode(), "line 1"),
        (f"\ufeff{A}  a\n".encode(), "ASCII"),
        (b"", "line 1"),
    ],
)
def test_a_list_in_any_other_form_is_refused(data, why):
    with pytest.raises(ValueError, match=why):
        read_sums(data)
