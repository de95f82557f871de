"""The lab: a local Azure on one loopback port, for drills and tests.

It answers unmodified Azure clients under Azure's public host names, with real RSA,
real secret sharing and real wrapped keys. It never connects anywhere but to itself,
and it imports nothing of the project but `drengine.errors`.
"""

from __future__ import annotations
