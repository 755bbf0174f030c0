"""Turn instances into rows: read their bytes, encode them, and cache the rows by content hash and encoder."""
