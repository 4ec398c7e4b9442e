"""The virtual object Turn: runs the ADK Runner for one message at a time, and stores its events."""
