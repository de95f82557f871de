"""All rules by id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from drengine.rules import hsm, placing, sql
from drengine.rules.contract import Rule

RULES: Final[Mapping[str, Rule]] = {
    rule.id: rule for rule in (*hsm.RULES, *placing.RULES, *sql.RULES)
}
