"""The command `adk-chat`."""
