"""Where picks go: the queue of a project, a table, or tasks made for them in a project."""
