"""The terminal workbench. Imports ``engine``, never torch, transformers, datasets or unsloth."""
