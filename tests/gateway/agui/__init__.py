"""AG-UI over HTTP, and with the clients that people use."""
