"""``runs.db``: the index over all journals. Rebuilt from them at any time."""
