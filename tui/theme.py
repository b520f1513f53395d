"""One plain theme. Every colour is an entry of xterm's 256, so that nothing is rounded over ssh.

Panes have borders and states have words and symbols: it stays readable in 16 colours and in none.
"""

from textual.theme import Theme

from engine.charts.colours import SERIES_COLOURS

__all__ = ["PLAIN", "SERIES_COLOURS", "STATES"]

PLAIN = Theme(
    name="plain",
    dark=True,
    background="#121212",
    foreground="#d0d0d0",
    surface="#1c1c1c",
    panel="#262626",
    boost="#303030",
    primary="#5fafff",
    secondary="#87d7d7",
    accent="#ffd75f",
    success="#87d787",
    warning="#ffaf5f",
    error="#ff8787",
    text_alpha=1.0,
    variables={
        "border": "#585858",
        "border-blurred": "#585858",
        "quiet": "#9e9e9e",
        "footer-key-foreground": "#5fafff",
        "block-cursor-background": "#005f87",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-blurred-background": "#303030",
        "block-cursor-blurred-foreground": "#d0d0d0",
        "input-selection-background": "#005f87",
        "scrollbar": "#444444",
        "scrollbar-hover": "#5fafff",
        "scrollbar-active": "#5fafff",
        "scrollbar-background": "#1c1c1c",
    },
)

STATES: dict[str, tuple[str, str]] = {
    "queued": ("◌", "#9e9e9e"),
    "starting": ("◍", "#ffd75f"),
    "running": ("●", "#87d787"),
    "stopping": ("◍", "#ffd75f"),
    "finished": ("✓", "#87d787"),
    "stopped": ("■", "#ffd75f"),
    "failed": ("✗", "#ff8787"),
    "killed": ("†", "#ff8787"),
    "lost": ("?", "#ff8787"),
}
"""State of a run -> its symbol and colour; the word always stands beside it."""
