"""Which columns answer on the Play screen: added and removed by name, any number of them."""

from dataclasses import dataclass

from rich.text import Text
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from engine.text import clip, safe_line
from tui.screens.help import Chooser

__all__ = ["ColumnsScreen", "Offer"]

TYPED = "\0typed"


@dataclass(frozen=True)
class Offer:
    """Something that can answer."""

    ref: str
    label: str
    about: str = ""


class ColumnsScreen(Chooser):
    """Enter adds or removes what is marked; esc closes. Dismisses with None, changes ``chosen``.

    What was typed is offered as well: a model's folder or hub id, a checkpoint (RUN@STEP), a GGUF
    file, or an endpoint (URL#MODEL key=VARIABLE).
    """

    HEADING = "Columns: who answers"
    ASK = "a run, RUN@STEP, a model's folder or hub id, FILE.gguf, or URL#MODEL"

    def __init__(self, chosen: list[Offer], offers: list[Offer]) -> None:
        super().__init__()
        self.chosen = list(chosen)
        self._offers = offers

    def on_mount(self) -> None:
        super().on_mount()
        box = self.query_one(".chooser")
        box.border_subtitle = "enter adds or removes · type for more · esc done"

    def options(self, words: list[str]) -> list[Option]:
        held = {offer.ref for offer in self.chosen}
        offers = [*self.chosen, *(offer for offer in self._offers if offer.ref not in held)]
        made = []
        for offer in offers:
            place = f"{offer.ref} {offer.label} {offer.about}".lower()
            if not all(word in place for word in words):
                continue
            number = self.chosen.index(offer) + 1 if offer.ref in held else 0
            line = Text(no_wrap=True, overflow="ellipsis")
            line.append(f"[{number or ' '}] ", "bold #5fafff")
            line.append(clip(offer.label, 50))
            line.append(f"  {clip(offer.about, 60)}", "#9e9e9e")
            made.append(Option(line, id=offer.ref))
        typed = self.query_one(Input).value.strip() if words else ""
        if typed and all(typed != offer.ref for offer in offers):
            made.append(Option(Text(f"[ ] add {clip(typed, 70)}", no_wrap=True), id=TYPED))
        return made

    def choose(self, id: str | None) -> None:
        if id is None:
            return
        field = self.query_one(Input)
        ref = field.value.strip() if id == TYPED else id
        held = next((offer for offer in self.chosen if offer.ref == ref), None)
        if held is not None:
            self.chosen.remove(held)
        else:
            offered = next((offer for offer in self._offers if offer.ref == ref), None)
            self.chosen.append(offered or Offer(ref, _called(ref)))
        if id == TYPED:
            field.value = ""  # fills the list anew
        else:
            options = self.query_one(OptionList)
            at = options.highlighted
            self._fill(field.value)
            if at is not None and options.option_count:
                options.highlighted = min(at, options.option_count - 1)

    def action_cancel(self) -> None:
        self.dismiss(None)


def _called(ref: str) -> str:
    """A server by its model, which a narrow title would lose behind the address."""
    url, _, model = ref.partition("#")
    if model and "://" in url:
        host = url.partition("://")[2].partition("/")[0]
        ref = f"{model.partition(' ')[0]} at {host}"
    return safe_line(ref[:200])
