"""The demo: a real Label Studio, a bundled data set, two played annotators; only the CLI and tests use it."""
