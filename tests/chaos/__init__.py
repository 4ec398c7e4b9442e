"""Faults under load, and an auditor of the results: `make chaos`, or `python -m tests.chaos --seconds 60`."""
