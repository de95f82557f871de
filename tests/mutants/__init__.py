"""Deliberate bugs, one patch each, and the command that shows that the suite catches them."""
