"""What no process of a laptop's stack may import: clients of a team's servers, and what starts them."""

TEAM_ONLY = (
    *("amqp", "billiard", "celery", "flower", "kombu", "psycopg", "psycopg_binary", "redis"),
    *("airflow.providers.celery", "botocore", "obstore"),
    *("pipeline.stack.servers", "pipeline.stack.services", "pipeline.stack.team"),
)
