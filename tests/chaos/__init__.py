"""Faults under load, and an auditor of what is left: `make chaos`, or `python -m tests.chaos --seconds 60`."""
