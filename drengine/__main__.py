"""`python -m drengine`."""

from __future__ import annotations

from drengine.cli.main import main

main()
