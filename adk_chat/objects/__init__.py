"""The virtual objects Chat and AppState, and what handlers share."""
