"""Who may make a request: tokens, tickets, origins."""
