"""The only door to Ray: a cluster, blocks of a selection and tables of instances computed on it.

Nothing here knows encoders, media, runs or Label Studio, and nothing is loaded before a cluster is asked for.
Ray passes pickled objects between its processes: who can reach a cluster can run code on it, so it has to be
private to the people who run this backend.
"""

from usl_backend.distributed.blocks import ClusterBlocks
from usl_backend.distributed.cluster import Cluster, connect

__all__ = ["Cluster", "ClusterBlocks", "connect"]
