"""The journal: append-only, hash-chained, one chain per run."""
