"""Training jobs on a Ray cluster, by Ray's Jobs REST API and files in the workspace's bucket.

The engine has `backend` and `jobs_api`; `node` runs beside the job. None of them imports Ray.
"""
