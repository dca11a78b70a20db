# Needs Python >= 3.11, pip and make; everything else is set up under .venv, from locked and hashed requirements.
.POSIX:
BIN = .venv/bin
AREA =
.PHONY: setup run demo test check bench soak lock clean

setup: .venv/.stamp

.venv/.stamp: bootstrap.sh pyproject.toml requirements/dev.lock requirements/tools.lock
	sh bootstrap.sh
	touch .venv/.stamp

run: .venv/.stamp
	$(BIN)/remit tour

demo: .venv/.stamp
	$(BIN)/remit demo

test: .venv/.stamp
	$(BIN)/python -m pytest -n 2

check: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_tree.py

bench: .venv/.stamp
	$(BIN)/python -m bench $(AREA)

soak: .venv/.stamp
	$(BIN)/python -m bench.soak

lock:
	sh bootstrap.sh tools-only
	.venv/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --extra all pyproject.toml requirements/dev.in -o requirements/dev.lock
	.venv/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header pyproject.toml -o requirements/core.lock
	.venv/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header requirements/tools.in -o requirements/tools.lock

clean:
	rm -rf .venv .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis
