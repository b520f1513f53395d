"""Loads a model and trains it. Only worker processes import these modules: torch lives here."""
