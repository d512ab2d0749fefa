"""The steps of the training DAG, one family a module."""
