"""Destinations of the picks: a project's queue, a table, or new tasks in a project."""
