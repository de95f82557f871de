"""The fault campaign: kills, lost answers and late effects over a whole recovery.

`python -m faultlab --help` (from `tests/`, or `make faults`) shows what it can do. One
trial is a fresh copy of a lab after its disaster, a run that is killed or whose exchange
is spoilt at one chosen point, resumed until it ends, and a verdict by the lab's own call
log, the journal and the evidence.
"""
