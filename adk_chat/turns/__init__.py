"""The virtual object Turn: runs the ADK Runner for one message at a time, and stores what comes of it."""
