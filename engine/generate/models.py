"""Holds models in memory: every base once, adapters on top of it. Torch lives here."""

import contextlib
import ctypes
import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from engine.builtin import model_path
from engine.data.tokens import Formatter
from engine.errors import UserError
from engine.generate.adapters import stranger
from engine.generate.batching import free_memory
from engine.generate.columns import Column, loaded_recipe
from engine.generate.mixing import BASE
from engine.generate.room import ask_leave, bytes_needed, check_room
from engine.generate.stepper import Stepper
from engine.generate.weights import hold_whole
from engine.home import Home
from engine.jobs.check import check_model
from engine.train.backend import choose_device
from engine.train.transformers_backend import compute_dtype, load_base

__all__ = ["BASE", "Base", "Models", "Voice"]


@dataclass
class Base:
    """One copy of a base model's weights, with the adapters loaded on it so far."""

    bare: Any
    """Transformers' model, with layers of PEFT in it once there are adapters."""
    tokenizer: Any
    device: str
    note: str = ""
    """What was decided about how it is held, in words."""
    adapters: dict[tuple[str, int], str] = field(default_factory=dict)
    """(folder, time of change of its weights) -> PEFT's name."""
    misfit: str | None = None
    """Why it cannot answer from slots; "" when it can, None before it is tried."""
    steppers: list[Stepper] = field(default_factory=list)
    """The slots of the last few prompts, for the next ones."""
    aside: ClassVar[bool] = False
    """Another library answers, in a thread of its own."""
    borrowed: bool = False
    """Its weights are trained between answers: nothing of an answer may stay."""

    def __post_init__(self) -> None:
        self.model = self.bare
        """The same as PEFT's model, once there are adapters."""
        self._switched: str | None = None
        """Which adapter PEFT's layers add, ``BASE`` for none; None: not known."""
        self.attention: str = self.bare.config._attn_implementation
        config = self.bare.config.get_text_config()
        self.context: int | None = getattr(config, "max_position_embeddings", None)
        own = getattr(self.bare.generation_config, "eos_token_id", None)
        ends = own if isinstance(own, list) else [own]
        self.ends = frozenset(token for token in ends if token is not None)
        """Tokens that end an answer by the model's own account."""

    def load_adapter(self, folder: Path) -> str:
        """Load an adapter unless it is there already; returns PEFT's name for it."""
        weights = folder / "adapter_model.safetensors"
        try:
            key = (str(folder), weights.stat().st_mtime_ns)
        except OSError:
            raise UserError(f"{weights}: cannot be read; has the run been removed?") from None
        if key in self.adapters:
            return self.adapters[key]
        if why := stranger(self.bare, folder):
            raise UserError(f"{folder}: is an adapter of another base model: {why}")
        name = f"adapter{len(self.adapters)}"
        self._switched = None  # PEFT's new layers add it
        try:
            if not self.adapters:
                from peft import PeftModel

                self.model = PeftModel.from_pretrained(self.model, str(folder), adapter_name=name)
            else:
                self.model.load_adapter(str(folder), adapter_name=name)
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"{folder}: does not fit this base model: {str(error).strip().splitlines()[0]}"
            ) from error
        self.model.eval()
        self.adapters[key] = name
        return name

    def without_gradients(self) -> contextlib.AbstractContextManager[Any]:
        """What answering happens in: inference mode, unless a gradient may meet its tensors."""
        return torch.no_grad() if self.borrowed else torch.inference_mode()

    @contextlib.contextmanager
    def only(self, adapter: str) -> Iterator[Any]:
        """The model with one adapter, or with none (``BASE``).

        A model that nothing was loaded on is taken as it is, with whatever adapter it came with.
        """
        if not self.adapters:
            yield self.model
        elif adapter == BASE and self.model.active_peft_config.is_prompt_learning:
            with self.model.disable_adapter():
                yield self.model
        else:
            if self._switched != adapter:
                self._switch(adapter)
            yield self.model

    def _switch(self, adapter: str) -> None:
        # PEFT looks at every module for that: 40 ms a time on a model of 28 layers.
        self._switched = None  # where it fails halfway
        if adapter == BASE:
            self.model.base_model.disable_adapter_layers()
        else:
            if not self.model.active_peft_config.is_prompt_learning:
                self.model.base_model.enable_adapter_layers()
            self.model.set_adapter(adapter)
        self._switched = adapter


@dataclass(frozen=True)
class Voice:
    """A column, loaded: which copy of which base, which adapter on it, how prompts are written."""

    column: Column
    base: Any
    """:class:`Base`, or :class:`engine.generate.gguf.GgufBase`."""
    adapter: str
    formatter: Any
    """:class:`engine.data.tokens.Formatter`, or the file's own."""


class Models:
    """Columns by id. Loading one whose base is there already costs its adapter only."""

    def __init__(self, tell: Callable[[str], None], home: Home | None = None) -> None:
        self.tell = tell
        self.home = home
        """Whose training runs must not be put at risk; None: nobody's."""
        self.bases: dict[tuple[Any, ...], Any] = {}
        """:class:`Base`, and :class:`engine.generate.gguf.GgufBase`."""

    def voice(
        self,
        column: Column,
        *,
        used: Iterable[Any] = (),
        allow_beside_training: bool = False,
    ) -> Voice:
        """Load what the column needs. Raises :class:`UserError` where it cannot be loaded.

        Where memory is short, bases that are not among the ``used`` ones go first.
        ``allow_beside_training``: also when that raises :class:`engine.errors.NeedsConsent`.
        """
        if column.is_gguf:
            return self._file_voice(column, used, allow_beside_training)
        recipe = loaded_recipe(column)
        check_model(recipe)
        device = choose_device(recipe)
        dtype = compute_dtype(recipe, device)
        section = recipe.model
        path = model_path(section.model_name_or_path)
        key = (
            *(path, section.revision, device, dtype, section.load_in_4bit),
            *(section.bnb_4bit_quant_type, section.bnb_4bit_use_double_quant),
            *(section.attn_implementation, *section.add_tokens),
        )
        base = self.bases.get(key)
        if base is None:
            if self.home is not None and not allow_beside_training:
                ask_leave(self.home, device)
            self._make_room(column.model_name_or_path, bytes_needed(recipe, dtype), device, used)
            self.tell(f"loading {column.model_name_or_path}")
            model, tokenizer = load_base(recipe, device, dtype)
            model.eval()
            note = hold_whole(model, device, dtype)
            base = self.bases[key] = Base(model, tokenizer, device, note)
        adapter = BASE
        if column.adapter:
            self.tell(f"loading the adapter of {column.label}")
            adapter = base.load_adapter(Path(column.adapter))
        formatter = Formatter.of(recipe)
        return Voice(column, base, adapter, formatter)

    def _file_voice(self, column: Column, used: Iterable[Any], allow: bool) -> Voice:
        from engine.generate.gguf import GgufBase, GgufFormatter, needed_bytes, uses_gpu

        path = Path(column.model_name_or_path)
        try:
            key = ("gguf", str(path), path.stat().st_mtime_ns)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        if key not in self.bases:
            device = "cuda:0" if uses_gpu() else "cpu"
            if self.home is not None and not allow:
                ask_leave(self.home, device)
            self._make_room(path.name, needed_bytes(path), device, used)
            self.tell(f"loading {path.name}")
            self.bases[key] = GgufBase(path)
        base = self.bases[key]
        return Voice(column, base, BASE, GgufFormatter(base))

    def _make_room(self, name: str, needed: int | None, device: str, used: Iterable[Any]) -> None:
        if needed is None:
            return
        if needed > free_memory(device):
            kept = {id(base) for base in used}
            self._drop({key: base for key, base in self.bases.items() if id(base) not in kept})
        check_room(name, needed, free_memory(device), device)

    def free(self) -> bool:
        """Forget every model (false: there was none); who holds a voice must have let it go."""
        had = bool(self.bases)
        self._drop(dict(self.bases))
        return had

    def _drop(self, gone: dict[tuple[Any, ...], Any]) -> None:
        for key in gone:
            if (base := self.bases.pop(key)).aside:
                base.close()
        base = None
        gone.clear()
        give_back()


def give_back() -> None:
    """Hand memory that nothing uses any more to whoever wants it: the GPU's, and this machine's."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
