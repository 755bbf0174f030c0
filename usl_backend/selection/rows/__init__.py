"""Numerics on rows that the methods share: neighbors, k-means, assignment, densities, duplicates."""
