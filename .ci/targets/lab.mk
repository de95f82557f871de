# Drills under the other values of the lab's open questions; too long for every `make test`.
.PHONY: drills
drills: $(READY)
	@DRENGINE_DRILLS=1 $(BIN)/pytest -q tests/lab/test_drill.py
