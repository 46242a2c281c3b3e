# `make demo` and `make test` do all their own set-up; they need a Python >= 3.10 and make.
# PYTHON=/path/to/python3 chooses the Python that .venv is made with.

# In an emptied environment (env -i) there is no HOME, but pip, ssh and our own state need one.
export HOME := $(or $(HOME),$(shell getent passwd "$$(id -u)" | cut -d: -f6))
export PYTHON

.PHONY: help demo demo-stop test unit lint lock slow vm live soak benchmarks report conformance fuzz clean

help:
	@echo 'make demo       a notebook server in a sandbox on this machine, and a cell run through its URL'
	@echo 'make demo-stop  end it'
	@echo 'make test       linters and the whole test suite'
	@echo 'make unit       the quick tests only'
	@echo 'make lint       linters only'
	@echo 'make lock       pin anew what is installed on VMs'
	@echo 'make slow       the tests that take long, or want a quiet machine'
	@echo 'make live       a small VM on Google'"'"'s own cloud, made, used and deleted: LIVE_PROJECT=... LIVE_ZONE=...'
	@echo 'make vm         the startup script on a Debian of its own, under systemd; needs root, and minutes'
	@echo 'make soak       an hour of cut connections under load; its result is kept in benchmarks/results'
	@echo 'make benchmarks  all others, in an hour and a half on a machine that does nothing else; needs root'
	@echo 'make report     benchmarks/RESULTS.md, made of their results'
	@echo 'make conformance  the extension on every Python and Jupyter that it promises to run on'
	@echo 'make fuzz       ten minutes of messages made up by a fuzzer; what is new stays in tests/jupyter/corpus'
	@echo 'make clean      remove all that was made here'

demo:
	@scripts/setup demo
	@.venv/bin/python examples/demo.py

demo-stop:
	@.venv/bin/python examples/demo.py --stop

test: lint
	@scripts/test

unit:
	@scripts/setup test
	@.venv/bin/python -m pytest tests/unit

lint:
	@scripts/setup test
	@scripts/lint

lock:
	@scripts/setup test
	@scripts/lock

conformance:
	@scripts/setup test
	@.venv/bin/python scripts/conformance

fuzz:
	@scripts/setup test
	@.venv/bin/python scripts/fuzz

slow:
	@scripts/setup test
	@.venv/bin/python -m pytest -m slow

live:
	@scripts/setup test
	@.venv/bin/python -m pytest -m live -rs tests/gce/live

vm:
	@scripts/setup test
	@.venv/bin/python -m benchmarks.vm >benchmarks/results/vm.json.new
	@mv benchmarks/results/vm.json.new benchmarks/results/vm.json

soak:
	@scripts/setup test
	@.venv/bin/python -m benchmarks.soak >benchmarks/results/soak.json.new
	@mv benchmarks/results/soak.json.new benchmarks/results/soak.json

# The first print their result; the others keep it by themselves.
benchmarks:
	@scripts/setup benchmarks
	@set -e; for name in warm_connect cuts outages iap gce_warm_connect prepared_connect; do \
		.venv/bin/python -m benchmarks.$$name >benchmarks/results/$$name.json.new; \
		mv benchmarks/results/$$name.json.new benchmarks/results/$$name.json; \
	done
	@set -e; for name in extension dataplane rekey; do .venv/bin/python -m benchmarks.$$name; done

report:
	@scripts/setup test
	@.venv/bin/python -m benchmarks.report

clean:
	@if [ -d .demo ]; then $(MAKE) --no-print-directory demo-stop; fi
	rm -rf .venv .demo .artifacts .coverage .coverage.* .pytest-output* dist build
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
