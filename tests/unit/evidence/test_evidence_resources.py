from __future__ import annotations

import pytest

from drengine import resources
from drengine.errors import InternalError


def test_templates_and_runbooks_are_found_in_a_checkout():
    assert (resources.template_folder() / "report.html.j2").is_file()
    assert resources.runbook_folder().name == "runbooks"


def test_the_shipped_ones_come_first(tmp_path, monkeypatch):
    shipped = tmp_path / "drengine/_shipped/templates"
    shipped.mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "drengine")
    assert resources.template_folder() == shipped


def test_a_folder_beside_site_packages_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "templates").mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "drengine")
    with pytest.raises(InternalError, match="has no templates"):
        resources.template_folder()
