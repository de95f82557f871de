"""Azure's regions as far as the lab knows them: names, geographies, where HSMs are offered.

Short names of the regions that take Managed HSMs are those of a recorded refusal (2023-12);
geographies are the documented ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Region:
    """A region.

    Attributes:
        name: the short form, as in `westeurope`.
        shown: the display name, as in `West Europe`.
        has_hsms: whether Managed HSMs are offered there.
    """

    name: str
    shown: str
    geography: str
    has_hsms: bool


_WITH_HSMS: Final = {
    "Asia Pacific": ("East Asia", "Southeast Asia"),
    "Australia": ("Australia Central", "Australia East"),
    "Brazil": ("Brazil South",),
    "Canada": ("Canada Central", "Canada East"),
    "Europe": ("North Europe", "West Europe"),
    "France": ("France Central",),
    "Germany": ("Germany West Central",),
    "India": ("Central India", "West India"),
    "Japan": ("Japan East", "Japan West"),
    "Korea": ("Korea Central",),
    "Norway": ("Norway East",),
    "Poland": ("Poland Central",),
    "Qatar": ("Qatar Central",),
    "South Africa": ("South Africa North",),
    "Sweden": ("Sweden Central",),
    "Switzerland": ("Switzerland North",),
    "UAE": ("UAE North",),
    "United Kingdom": ("UK South", "UK West"),
    "United States": (
        *("Central US", "East US", "East US 2", "North Central US", "South Central US"),
        *("West Central US", "West US", "West US 2", "West US 3"),
    ),
}
_CANARIES: Final = {"United States": ("Central US EUAP", "East US 2 EUAP")}
"""Regions for early tests: recordings show HSMs in them, and no list of a refusal names them."""

_WITHOUT: Final = {
    "France": ("France South",),
    "Germany": ("Germany North",),
    "Sweden": ("Sweden South",),
    "Switzerland": ("Switzerland West",),
}


def region_key(text: str) -> str:
    """Return a region in its short form, whatever form it was given in."""
    return text.replace(" ", "").lower()


REGIONS: Final = {
    region_key(shown): Region(region_key(shown), shown, geography, has_hsms)
    for table, has_hsms in ((_WITH_HSMS, True), (_CANARIES, True), (_WITHOUT, False))
    for geography, names in table.items()
    for shown in names
}
HSM_REGIONS: Final = tuple(sorted(one.name for one in REGIONS.values() if one.has_hsms))
NAMED_REGIONS: Final = tuple(name for name in HSM_REGIONS if not name.endswith("euap"))
"""Those that refusals name."""


def region_name(location: str) -> str:
    """Return a region's display name, its own text where the lab does not know it."""
    found = REGIONS.get(region_key(location))
    return found.shown if found else location


def geography_of(location: str) -> str:
    """Return the geography of a region; one that the lab does not know is its own."""
    found = REGIONS.get(region_key(location))
    return found.geography if found else location
