"""The rule catalogue: named checks, pure, each with its source and its advice."""
