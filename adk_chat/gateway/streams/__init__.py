"""Watching a turn: server-sent events, live and from the store, which can be resumed anywhere."""
