"""AG-UI: runs of frontends, as turns of the service."""
