"""Demo: a local Label Studio, a bundled data set and two simulated annotators; used by the CLI and tests."""
