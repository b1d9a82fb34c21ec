# `make test` and `make demo` work on a bare Debian 12, as root: they install what they need.
# First runs build Debian roots under ~/.cache/kernward, some minutes; later ones find them there.

IN_ENV := tests/run-in-env.sh

.PHONY: test lint demo bench

test:
	$(IN_ENV) pytest -n auto --maxprocesses 4 --dist worksteal

lint:
	$(IN_ENV) pytest tests/test_linters.py

demo:
	$(IN_ENV) env PYTHONPATH=tests python -m roots.demo

# Ten kernels and ten modules, then repairs: some ten minutes at first, five later. Wants a quiet machine.
bench:
	$(IN_ENV) env PYTHONPATH=tests python -m bench
