# What shows that nothing is done twice and nothing lost; docs/reliability.md says what each means.
.PHONY: faults faults-pairs journal-mutations journal-disk race mutants

FAULTS_ARGS ?=
SEEDS ?= 1

faults: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m faultlab --seeds $(SEEDS) --jobs $(JOBS) $(FAULTS_ARGS)

faults-pairs: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m faultlab --pairs 2000 --jobs $(JOBS) $(FAULTS_ARGS)

journal-mutations: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m journalfire 1000000

journal-disk: $(READY)
	@DRENGINE_DISK_EVERY=1 DRENGINE_POWER_LOSSES=1000 $(BIN)/pytest -q -o timeout=3600 tests/faults/test_journal_disk.py

race: $(READY)
	@DRENGINE_RACE_ROUNDS=200 $(BIN)/pytest -q -o timeout=3600 tests/faults/test_operators.py -k 8_processes

mutants: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m mutants
