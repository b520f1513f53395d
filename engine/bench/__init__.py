"""The comparison on this machine: tunebench, its rivals and the card's own limit, on the same rows.

Each contestant runs in a process of its own, one after the other. Nothing of this room imports
torch but what those processes run: ``card``, ``shapes``, ``rival`` and the modules of the rivals.
"""
