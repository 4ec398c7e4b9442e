"""The chat in the terminal: a client of a gateway, like any other."""
