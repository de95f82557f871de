"""The data plane of the lab's Managed HSMs: one host name each, real keys, real domains."""

from __future__ import annotations
