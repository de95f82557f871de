"""Values only: ids, runbook, plan, records, run state, findings, Azure facts.

Nothing in here reads a clock, a file or the network; everything is frozen and
can be written as canonical JSON.
"""
