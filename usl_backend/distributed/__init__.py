"""All use of Ray: connect to a cluster, and compute blocks of a selection and tables of instances on it.

Ray is imported only when a cluster is requested. Its processes exchange pickled objects: whoever can reach a cluster
can run code on it, so that only the people who run this backend may have access to it.
"""

from usl_backend.distributed.blocks import ClusterBlocks
from usl_backend.distributed.cluster import Cluster, connect

__all__ = ["Cluster", "ClusterBlocks", "connect"]
