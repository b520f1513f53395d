"""The fixed prompts and how their answers change over the steps: one prompt, newest on top."""

from typing import Any

from rich.style import Style
from textual import work

from engine.text import safe
from tui.feed import RunDetail
from tui.widgets.lines import ACCENT, BOLD, PLAIN, QUIET, LinesView, Run
from tui.worddiff import marked

__all__ = ["SamplesView", "prompts_of", "sample_runs"]

MOST_SAMPLES = 40
"""Of one prompt, the newest so many are shown."""
MOST_CHARACTERS = 3000
"""Of one answer; comparing two of them takes up to 10 ms."""
REFERENCE = Style(color="#87d7d7")


def prompts_of(detail: RunDetail) -> list[str]:
    """The prompts in the order in which they were first answered."""
    return list(dict.fromkeys(str(one.get("prompt") or "") for one in detail.samples))


def sample_runs(samples: list[dict[str, Any]]) -> list[Run]:
    """The samples of one prompt (oldest first), newest on top, each compared with the one before.

    What came is marked ``{+so+}``; what went stands in the answer below. Some ms an answer.
    """
    shown = samples[-MOST_SAMPLES:]
    first = samples[0] if samples else {}
    runs: list[Run] = [("prompt     ", QUIET), (_cut(first.get("prompt")) + "\n", BOLD)]
    if reference := first.get("reference"):
        runs += [("reference  ", QUIET), (_cut(reference) + "\n", REFERENCE)]
    for place in range(len(shown) - 1, -1, -1):
        one = shown[place]
        before = shown[place - 1] if place else None
        text = str(one.get("text") or "")[:MOST_CHARACTERS]
        runs.append((f"\nstep {one.get('step')}", ACCENT))
        if before is None:
            if len(samples) > len(shown):
                runs.append((f"  ({len(samples) - len(shown)} older ones are not shown)", QUIET))
            runs += [("\n", PLAIN), (_cut(text), PLAIN)]
        else:
            found = marked(str(before.get("text") or "")[:MOST_CHARACTERS], text)
            told = f"  the same as at step {before.get('step')}" if found.same else ""
            runs += [(f"{told}\n", QUIET), *found.after]
        if not text:
            runs.append(("(nothing)", QUIET))
        runs.append(("\n", PLAIN))
    return runs


def _cut(text: Any) -> str:
    return safe(str(text or "")[:MOST_CHARACTERS])


class SamplesView(LinesView):
    """Shows one prompt of a run; :meth:`turn` goes to another one."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self._detail: RunDetail | None = None
        self._run = ""
        self._prompt = 0
        self._shown: tuple[object, ...] = ()

    def show_detail(self, detail: RunDetail | None) -> None:
        """Bring it up to date; nothing is done when there is no new sample."""
        self._detail = detail
        run = detail.row.id if detail else ""
        if run != self._run:
            self._run, self._prompt = run, 0
        prompts = prompts_of(detail) if detail else []
        self._prompt = min(self._prompt, max(0, len(prompts) - 1))
        samples = []
        if detail and prompts:
            wanted = prompts[self._prompt]
            samples = [one for one in detail.samples if str(one.get("prompt") or "") == wanted]
        last = samples[-1] if samples else {}
        key = (run, self._prompt, len(prompts), len(samples), last.get("step"), last.get("t"))
        if key == self._shown:
            return
        turned = key[:2] != self._shown[:2]
        self._shown = key
        if not samples:
            self.border_title = "samples"
            self.border_subtitle = ""
            self.show([(self._nothing(), QUIET)])
            return
        self.border_title = f"samples: prompt {self._prompt + 1} of {len(prompts)}"
        self.border_subtitle = "n N another prompt · y answers now · {+new+}"
        if turned:
            self.top = 0
        self._compare(key, samples)

    def _nothing(self) -> str:
        if self._detail is None:
            return "No run is chosen."
        return (
            "This run has answered no prompt yet: evaluate.sample_prompts (or the first "
            "evaluate.sample_rows of validation) are answered at every evaluation, and on y."
        )

    @work(thread=True, group="samples", exclusive=True, exit_on_error=False)
    def _compare(self, key: tuple[object, ...], samples: list[dict[str, Any]]) -> None:
        """In a thread: forty long answers take 0.2 s."""
        runs = sample_runs(samples)
        self.app.call_from_thread(self._compared, key, runs)

    def _compared(self, key: tuple[object, ...], runs: list[Run]) -> None:
        if key == self._shown:
            self.show(runs)

    def turn(self, by: int) -> None:
        """Show another prompt."""
        count = len(prompts_of(self._detail)) if self._detail else 0
        if count > 1:
            self._prompt = (self._prompt + by) % count
            self.show_detail(self._detail)

    def action_cursor_right(self) -> None:
        self.turn(1)

    def action_cursor_left(self) -> None:
        self.turn(-1)
