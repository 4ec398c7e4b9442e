"""The gateway: ADK's API and dev UI on top of the service."""
