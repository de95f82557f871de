"""The command line: arguments, printing and exit codes; no logic of its own."""
