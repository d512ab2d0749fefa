"""A Ray cluster of this machine, each host of it in Linux namespaces of its own: `graft ray up`.

`network` and `host` are programs, run as files: they import nothing of Graft. `cluster` starts and ends them.
"""

from pipeline.stack.ray_cluster.cluster import RayCluster

__all__ = ["RayCluster"]
