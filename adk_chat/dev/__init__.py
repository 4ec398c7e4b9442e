"""Finding, installing and running restate-server for development and tests."""
