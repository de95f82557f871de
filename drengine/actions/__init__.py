"""Actions: what a step calls, one module per family, over the Protocols of `azure.ports`."""
