"""What the operator of an engine sees: metrics for Prometheus, logs with request ids, logged predictions."""
