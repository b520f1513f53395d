"""The screens' modules, imported when one is first shown, or while nobody waits."""

import gc
import importlib
from collections.abc import Callable

from textual._context import active_app
from textual.screen import Screen

from tui import keymap

__all__ = ["import_screens", "lazy_screen"]


def lazy_screen(module: str, name: str) -> Callable[[], Screen]:
    """Imports a screen when it is first shown: start-up pays only for the first one.

    Textual styles the screen that is being left all over again, twice, for one that it has not seen
    yet: 40 ms for nothing. It leaves out what knows all style sheets already, and these screens
    have none but their widgets', which are read when those are mounted.
    """

    def make() -> Screen:
        screen: Screen = getattr(importlib.import_module(f"tui.screens.{module}"), name)()
        screen._css_update_count = active_app.get()._css_update_count
        return screen

    return make


def import_screens() -> None:
    """The other screens' modules, before their keys are pressed: importing one takes 0.1 s.

    Frozen afterwards: a pass of the garbage collector over all modules takes 0.1 s too.
    """
    for module in (*keymap.SCREENS, *keymap.OVER):
        importlib.import_module(f"tui.screens.{module}")
    gc.freeze()
