"""What an operator sees of a running engine: metrics for Prometheus, and logs with request ids."""
