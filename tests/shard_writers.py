"""Rows of a known value and processes that write them: a spawned process has to import what it runs."""

import hashlib
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from usl_backend.embedding.cache import EmbeddingCache

DIM = 6


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def row(number: int) -> np.ndarray:
    """What content `number` is embedded as."""
    return np.random.default_rng(number).standard_normal(DIM).astype(np.float32)


def rows(numbers: list[int]) -> np.ndarray:
    return np.stack([row(number) for number in numbers]) if numbers else np.empty((0, DIM), np.float32)


def cache_at(directory: Path, key: str = "encoder-1") -> EmbeddingCache:
    return EmbeddingCache(directory, encoder_key=key, dim=DIM)


def fill(cache: EmbeddingCache, numbers: list[int]) -> None:
    cache.append([digest(number) for number in numbers], rows(numbers))


def append_forever(directory: Path, told: Connection) -> None:
    cache = cache_at(directory)
    number = len(cache)
    while True:
        fill(cache, list(range(number, number + 5)))
        cache.flush()
        number += 5
        told.send(number)


def append_many(directory: Path, start: int) -> None:
    cache = cache_at(directory)
    for number in range(start, start + 40):
        fill(cache, [number])
        cache.flush()
