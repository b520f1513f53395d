"""Runs that other programs made, brought into a home: their curves, settings and ends.

Sources: output folders of Transformers and what builds on it, Unsloth Studio's database,
TensorBoard's event files, W&B's offline runs. Nothing is unpickled, nothing fetched, no weights are
copied, and nothing is written outside the home.
"""

from engine.imports.runs.finding import SOURCES
from engine.imports.runs.importing import Taken, import_runs

__all__ = ["SOURCES", "Taken", "import_runs"]
