"""Suggestions for the tasks of a run: from the labels in Label Studio and the run's rows to classes, and to doubts."""
