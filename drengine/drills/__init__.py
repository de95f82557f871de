"""Drills: whole recoveries that need nothing but this machine."""
