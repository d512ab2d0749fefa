"""What other people's code may reach: jobs, the installation of their packages, and model workers.

`landlock` restricts a process by a `policy`, `sandbox` decides whether that happens, `system` lists what any
Python needs.
What a job may reach beyond that is in `backends.access`, what a worker may in `serving.pool`.
"""
