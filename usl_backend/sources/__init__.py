"""Sources of instances: a Label Studio project, a folder, a manifest or a vector file.

A TARGET becomes a `Listing` of entries, or a `VectorFile` if it contains embeddings.
"""

from usl_backend.sources.entries import Entry, Listing
from usl_backend.sources.target import KINDS, Target, find, read_manifest
from usl_backend.sources.vectors import VectorFile, VectorPool

__all__ = ["KINDS", "Entry", "Listing", "Target", "VectorFile", "VectorPool", "find", "read_manifest"]
