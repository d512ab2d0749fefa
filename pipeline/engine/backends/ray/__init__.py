"""Training jobs on a Ray cluster, by Ray's Jobs REST API and files in the workspace's bucket.

The engine has `backend` and `jobs_api`; `node` runs beside the job. None of them imports Ray.
Of a job with several replicas `node` has `group_backend` and `group`; it starts `placement`, the only program
that uses Ray, in Ray's own environment, which starts `replica` on each node.
"""
