"""Fuzzers over every parser: ``python -m tests.fuzz.run`` and, a few seconds each, ``pytest tests/fuzz``."""
