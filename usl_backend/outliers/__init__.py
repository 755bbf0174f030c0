"""Find the instances of a pool that show nothing: pictures of one color or of noise, tiny ones, texts without letters.

By numbers that are measured on each picture or text when it is decoded, never by what a network makes of it: to an
encoder, pictures of noise are a class like any other.
"""

from usl_backend.outliers.finding import REASONS, Outliers, Reason, find_outliers
from usl_backend.outliers.traits import UNMEASURED, Traits, traits_of_picture, traits_of_text

__all__ = [
    "REASONS",
    "UNMEASURED",
    "Outliers",
    "Reason",
    "Traits",
    "find_outliers",
    "traits_of_picture",
    "traits_of_text",
]
