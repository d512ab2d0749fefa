"""Cloud Storage's JSON API in front of the mapped buckets of one job.

`server` speaks HTTP, `requests` reads what is asked, `uploads` keeps what arrives, `objects` reads and writes
what the job may reach if the `conditions` of a request hold, and `on_demand` starts the server when the first
request arrives.
"""

SECRET = "GRAFT_BUCKET_SERVER_SECRET"  # the variable that tells the server the first part of its paths
