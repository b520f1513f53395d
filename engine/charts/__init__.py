"""Charts without a screen: growing series, scales and ticks, and drawings as SVG or CSV.

The workbench draws the same lines as characters (``tui.plotting``).
"""
