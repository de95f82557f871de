"""Everything that is read from outside, fed with changed and with random documents."""
