"""The journal of a Restate invocation as a memory: it knows Restate and asyncio, and nothing of ADK.

Code asks for steps in any order; each is found by its key, or is new. See `recorded` for how that works and `pump` for
how code waits.
"""
