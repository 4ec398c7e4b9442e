"""What a process does beside serving: logs, telemetry, readiness, workers, garbage collection, its end."""
