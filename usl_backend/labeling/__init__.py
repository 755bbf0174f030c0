"""How the labeling of a project goes: labels by role, annotator and class, pace, coverage, and what to do next."""
