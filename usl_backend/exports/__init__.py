"""What was labeled and what was not, written for those who train on it. Training itself is no part of this package."""

from usl_backend.exports.split import Row, Split
from usl_backend.exports.write import FORMATS, archive_split, export_split

__all__ = ["FORMATS", "Row", "Split", "archive_split", "export_split"]
