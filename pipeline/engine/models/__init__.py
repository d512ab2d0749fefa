"""Models and versions: their resources, long-running operations, and the rollout of versions."""
