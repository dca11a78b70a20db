# Needs Python >= 3.11, pip and make; everything else is set up under .venv, from locked and hashed requirements.
.POSIX:
BIN = .venv/bin
AREA =
SEED = 1
.PHONY: setup run demo test check contracts planted bench bench-peers soak lock clean

setup: .venv/.stamp

.venv/.stamp: bootstrap.sh pyproject.toml requirements/dev.lock requirements/tools.lock
	sh bootstrap.sh
	touch .venv/.stamp

run: .venv/.stamp
	$(BIN)/remit tour

demo: .venv/.stamp
	$(BIN)/remit demo

test: .venv/.stamp ## In an order that can be had again; SEED=7 EXPLORE=1 gives another, and other examples.
	$(BIN)/python -m pytest -n 2 --dist loadfile --randomly-seed=$(SEED)

check: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_tree.py

contracts: .venv/.stamp
	$(BIN)/python tools/contract_table.py

bench: .venv/.stamp
	$(BIN)/python -m bench $(AREA)

bench-peers: .venv/.stamp
	$(BIN)/python -m bench.peers

soak: .venv/.stamp
	$(BIN)/python -m bench.soak $${REMIT_SOAK_MINUTES:-30} --log $${REMIT_SOAK_LOG:-soak.log}

lock:
	sh bootstrap.sh tools-only
	.venv/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --extra all pyproject.toml requirements/dev.in -o requirements/dev.lock
	.venv/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header pyproject.toml -o requirements/core.lock
	.venv/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header requirements/tools.in -o requirements/tools.lock
	.venv/tools/bin/uv pip compile --quiet --universal --python-version 3.14 --no-deps --only-binary :all: \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header requirements/peers/python.in \
	  -o requirements/peers/python.lock
	.venv/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --no-deps --only-binary :all: \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header requirements/peers/scanners.in \
	  -o requirements/peers/scanners.lock
	.venv/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --no-deps --only-binary :all: \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header requirements/peers/graphs.in \
	  -o requirements/peers/graphs.lock
	npm install --prefix requirements/peers --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts \
	  --no-audit --no-fund

clean:
	rm -rf .venv .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis

planted: .venv/.stamp ## Plant a whole machine, discover it, and print what was planted and what was found.
	.venv/bin/python tools/planted_table.py
