"""What is told about requests: logs, metrics, traces."""
