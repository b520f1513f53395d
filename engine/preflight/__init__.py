"""What can be known, and measured, of a run before it is started.

``probe`` runs in a worker process of its own; everything else is torch-free and quick.
"""
