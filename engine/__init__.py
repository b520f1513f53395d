"""Everything of tunebench that works without a screen. Imports neither ``tui`` nor ``textual``."""

__version__ = "0.1.0"
