"""A disaster-recovery runbook engine for Azure Managed HSM."""

__version__ = "0.1.0"
