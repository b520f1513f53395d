"""Light colours: every colour of the dark ones, exchanged on its way to the terminal.

All that is drawn has one of some twenty colours, each an entry of xterm's 256; so has what it is
exchanged for. A second theme would reach what style sheets colour, not texts.
"""

import colorsys
from functools import lru_cache

from rich.color import Color as RichColor
from rich.color import ColorType
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

__all__ = ["LightColours", "light"]

LIGHT = {
    "#121212": "#ffffff",
    "#1c1c1c": "#eeeeee",
    "#262626": "#e4e4e4",
    "#303030": "#dadada",
    "#444444": "#bcbcbc",
    "#585858": "#9e9e9e",
    "#767676": "#808080",
    "#9e9e9e": "#5f5f5f",
    "#d0d0d0": "#262626",
    "#ffffff": "#000000",
    "#005f87": "#afd7ff",
    "#5fafff": "#005faf",
    "#ffd75f": "#5f5f00",
    "#87d787": "#005f00",
    "#ff87d7": "#af0087",
    "#87d7d7": "#005f5f",
    "#ffaf5f": "#875f00",
    "#ff8787": "#af0000",
    "#af87d7": "#8700af",
    "#5f87af": "#87afd7",
    "#af875f": "#d7af87",
    "#5f875f": "#87af87",
    "#af5f87": "#d787af",
    "#5f8787": "#87afaf",
    "#af5f00": "#ffaf87",
}
"""Dark -> light, both among xterm's 256."""


@lru_cache(4096)
def light(colour: str) -> str:
    """What a colour ("#rrggbb") is on a light ground; one that is mixed of others: as light as it
    was dark."""
    if colour in LIGHT:
        return LIGHT[colour]
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    made = colorsys.hls_to_rgb(hue, 1 - lightness, saturation)
    return "#" + "".join(f"{round(part * 255):02x}" for part in made)


def _exchanged(colour: RichColor | None) -> RichColor | None:
    if colour is None or colour.type is ColorType.DEFAULT:
        return colour
    return RichColor.parse(light(colour.get_truecolor().hex))


@lru_cache(4096)
def _style(style: Style) -> Style:
    return style + Style.from_color(_exchanged(style.color), _exchanged(style.bgcolor))


class LightColours(LineFilter):
    """On while ``enabled``."""

    def __init__(self, enabled: bool) -> None:
        super().__init__(enabled)

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            Segment(text, _style(style), control)
            if style is not None
            else Segment(text, None, control)
            for text, style, control in segments
        ]
