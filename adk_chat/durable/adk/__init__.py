"""ADK under a journal: what of a Runner's run is a journaled step, and how it is kept."""
