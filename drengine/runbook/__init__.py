"""The runbook language: YAML text -> `Runbook` -> `Plan`, and the expressions in it.

Pure: nothing in here opens a file, reads a clock or talks to a service. What the
planner needs from outside (a sub-runbook, a discovery, a file's digest) comes in as
a function.
"""
