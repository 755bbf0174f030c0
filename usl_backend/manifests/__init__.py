"""Pools outside Label Studio: folders, manifests and vector files, read as they come; nothing is embedded or chosen.

What a user calls a TARGET becomes a `Listing` of entries, or `VectorFile` where the embeddings are there already.
"""

from usl_backend.manifests.entries import Entry, Listing
from usl_backend.manifests.target import KINDS, Target, find, read_manifest
from usl_backend.manifests.vectors import VectorFile, VectorPool

__all__ = ["KINDS", "Entry", "Listing", "Target", "VectorFile", "VectorPool", "find", "read_manifest"]
