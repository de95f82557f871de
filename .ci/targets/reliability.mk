# What shows that nothing is done twice and nothing lost; docs/reliability.md says what each means.
.PHONY: faults faults-suite faults-pairs kills journal-mutations journal-disk race mutants ceremony-mutations fuzz

FAULTS_ARGS ?=
SEEDS ?= 1

faults: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m faultlab --seeds $(SEEDS) --jobs $(JOBS) $(FAULTS_ARGS)

faults-pairs: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m faultlab --pairs 2000 --jobs $(JOBS) $(FAULTS_ARGS)

faults-suite: $(READY)
	@DRENGINE_FAULTS_LONG=1 $(BIN)/pytest -q -n $(JOBS) --dist load tests/faults

KILL_SEEDS ?= 11,23,42,77
kills: $(READY)
	@DRENGINE_KILL_SEEDS=$(KILL_SEEDS) DRENGINE_KILLS=14 $(BIN)/pytest -q -o timeout=3600 tests/faults/test_kill.py

journal-mutations: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m journalfire 1000000

journal-disk: $(READY)
	@DRENGINE_DISK_EVERY=1 DRENGINE_POWER_LOSSES=1000 $(BIN)/pytest -q -o timeout=3600 tests/faults/test_journal_disk.py

race: $(READY)
	@DRENGINE_RACE_ROUNDS=200 $(BIN)/pytest -q -s -n0 tests/faults/test_operators.py -k 8_processes

mutants: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m mutants --jobs $(JOBS) $(MUTANTS_ARGS)

ceremony-mutations: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m ceremonyfire

EXAMPLES ?= 20000
fuzz: $(READY)
	@cd tests && PYTHONPATH=.. ../$(BIN)/python -m fuzz $(EXAMPLES)
