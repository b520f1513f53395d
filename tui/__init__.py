"""The terminal workbench. Imports ``engine``, never torch, transformers, datasets or unsloth."""

import os

# Textual reads these when it is imported. No animations: they cost bandwidth on a slow link.
os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
if "SSH_CONNECTION" in os.environ:
    os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")
    os.environ.setdefault("ESCDELAY", "200")  # escape sequences arrive split over slow links
