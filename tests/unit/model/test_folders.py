"""Whose backup a folder is, by its whole name."""

from __future__ import annotations

import pytest

from drengine.model.folders import folder_time_ms, is_folder_of


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("clitest-1102", "mhsm-clitest-1102-2020122004445528"),  # recorded
        ("mypool", "mhsm-mypool-20200303062926785"),  # a specification's example
        ("contosomhsm", "mhsm-ContosoMHSM-2020083120161860"),  # seed 004
        ("ContosoMHSM", "mhsm-contosomhsm-20200831201618"),
    ],
)
def test_the_forms_that_the_service_writes_are_known(name, folder):
    assert is_folder_of(name, folder)
    assert folder_time_ms(folder)


@pytest.mark.parametrize(
    "folder",
    [
        "mhsm-prod-dr-2026120106463630",
        "mhsm-prod-2-2026120106463630",
        "mhsm-prod-20261128064636-2026120106463630",
        "mhsm-prod2-2026120106463630",
        "mhsm-prod-2026",
        "mhsm-prod-202612010646363012",
        "mhsm-prod-2026120106463630/x",
        "mhsm-prod-2026120106463630\n",
        "mhsm-prod-٢٠٢٦١٢٠١٠٦٤٦٣٦",
        "mhsm-prod-",
        "a/mhsm-prod-2026120106463630",
        "",
    ],
)
def test_what_only_begins_like_a_backup_of_the_hsm_is_none(folder):
    assert not is_folder_of("prod", folder)
