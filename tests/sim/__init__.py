"""A world in one process: virtual time, a cloud in memory, crashes by seed.

Stands behind the real ports (`azure.ports`, `journal.port`) and drives the real
engine with the real actions, rules and runbooks. The lab tests do the same over
HTTPS; this one is for speed, and for the crashes that only a port can cause.
"""
