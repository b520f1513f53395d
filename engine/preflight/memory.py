"""How much memory training will take, by arithmetic: nothing is loaded, no torch.

Every number is bytes on the training device, as its allocator reserves them. What a layer keeps
for the backward pass is counted tensor by tensor from what each backend's layer does (Llama's
build in Transformers 5, PEFT's LoRA, Unsloth's kernels). ``tests/gpu/RESULTS.md`` has the table of
estimates beside measured peaks.
"""

from dataclasses import asdict, dataclass, replace

from engine.preflight import fused_memory
from engine.preflight.shape import ModelShape
from engine.recipe import Recipe
from engine.train.all_logits import takes_all_logits
from engine.train.optim import resolve_optim

__all__ = [
    "MemoryEstimate",
    "Setup",
    "estimate",
    "fits_unpacked",
    "layer_bytes",
    "optimizer_bytes",
]

CHUNK_TOKENS = 256
"""TRL's ``chunked_nll`` projects so many tokens to the vocabulary at a time."""
CHUNK_BYTES_PER_LOGIT = 18
"""bf16 logits, their float32 copy, log-softmax, and what its backward pass and the entropy take."""
UNSLOTH_LOGIT_BYTES = 400 << 20
"""Unsloth's fused loss: at most about this much for logits at a time."""
UNSLOTH_WORKING = 13
"""Bytes a token and element of the MLP's width that Unsloth's backward pass works with; fitted."""
UNSLOTH_COMPILED = 1
"""Likewise what its compiled layers keep besides what the kernels are given; fitted."""
UNSLOTH_SHORT = 128
"""Up to this length its attention was measured to repeat keys and values for every head."""
LIBRARY_BYTES = 600 << 20
"""Measured: torch, Transformers, TRL and PEFT in a process on a CPU."""


@dataclass(frozen=True)
class Setup:
    """Where a recipe is trained: what ``auto`` in it comes to."""

    backend: str
    """transformers or unsloth."""
    device: str
    """cuda or cpu."""
    dtype: str
    """What matrices are multiplied in: bfloat16, float16 or float32."""
    padding: bool = True
    """Batches have padding: attention then takes a mask, and copies of keys and values."""
    fused: bool = False
    """By the fused layers (``engine.train.fused``)."""
    unpacked: bool = False
    """These also hold 4-bit weights unpacked."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Parts of the peak, in bytes. Activations and evaluation never are there together."""

    weights: int
    adapters: int
    """Trained weights beside the base ones: LoRA matrices, modules trained whole."""
    gradients: int
    """Float32 gradients of what is trained, and autocast's copies of it."""
    optimizer: int
    activations: int
    """What a batch keeps for its backward pass."""
    logits: int
    """The loss: rows of the vocabulary's size."""
    working: int
    """Of one layer at a time: gradients passing through, weights unpacked from 4 bits."""
    evaluation: int
    """An evaluation batch with its logits, instead of activations, logits and working."""
    libraries: int = 0
    """On a CPU, what the process takes before any model; a GPU's allocator knows nothing of it."""

    recorded: bool = False
    """Training is recorded: its memory is not lent to the loss or to an evaluation."""

    @property
    def held(self) -> int:
        """What is there all the time."""
        return self.libraries + self.weights + self.adapters + self.optimizer

    @property
    def peak(self) -> int:
        if self.recorded:
            training = self.gradients + self.activations + self.working
            return self.held + training + max(self.logits, self.evaluation)
        # At the end of the forward pass the loss is computed on top of all activations; while a
        # layer passes its gradients back, the loss is over.
        training = self.gradients + self.activations + max(self.logits, self.working)
        return self.held + max(training, self.evaluation)

    def as_json(self) -> dict[str, int]:
        parts = {name: size for name, size in asdict(self).items() if name != "recorded"}
        return parts | {"peak": self.peak}


def estimate(
    recipe: Recipe, shape: ModelShape, setup: Setup, tokens: int, evaluated_tokens: int
) -> MemoryEstimate:
    """The parts for one process. ``tokens``: of the longest row of train, ``evaluated_tokens``: of
    validation and test."""
    if setup.fused:
        return _fused(recipe, shape, setup, tokens, evaluated_tokens)
    train = recipe.train
    trained = shape.trainable(recipe)
    wide = _padded(recipe, setup, tokens)
    rows = train.per_device_train_batch_size
    item = _item(setup)
    gradient = trained * 4
    if item < 4:
        gradient += trained * item  # autocast's copies, kept for the backward pass
    return MemoryEstimate(
        weights=_weights(recipe, shape, setup),
        adapters=trained * 4 if recipe.lora.enabled else 0,
        gradients=gradient,
        optimizer=optimizer_bytes(recipe, shape, setup),
        activations=_activations(recipe, shape, setup, rows, wide),
        logits=_logits(recipe, shape, setup, rows * wide, training=True),
        working=_working(recipe, shape, setup, rows * wide),
        libraries=LIBRARY_BYTES if setup.device == "cpu" else 0,
        evaluation=_evaluation(recipe, shape, setup, _padded(recipe, setup, evaluated_tokens)),
    )


def _fused(
    recipe: Recipe, shape: ModelShape, setup: Setup, tokens: int, evaluated_tokens: int
) -> MemoryEstimate:
    train, trained = recipe.train, shape.trainable(recipe)
    line = fused_memory.line(train.per_device_train_batch_size, tokens)
    evaluated = fused_memory.line(train.per_device_eval_batch_size, evaluated_tokens)
    working = fused_memory.working(shape, line)
    return MemoryEstimate(
        weights=_weights(recipe, shape, setup)
        + fused_memory.held_beside(recipe, shape, setup.unpacked),
        adapters=trained * 4,
        gradients=2 * trained * 4,  # as recorded, and the copy that accumulates
        optimizer=optimizer_bytes(recipe, shape, setup),
        activations=fused_memory.activations(recipe, shape, line),
        logits=fused_memory.logits(shape, line),
        working=working,
        evaluation=fused_memory.evaluation(shape, evaluated),
        recorded=True,
    )


def fits_unpacked(recipe: Recipe, shape: ModelShape, setup: Setup, free: int) -> bool:
    """Whether 4-bit weights may be held unpacked as well: with a fifth of what is free to spare."""
    tokens = recipe.train.max_length
    peak = estimate(recipe, shape, replace(setup, unpacked=True), tokens, tokens).peak
    return peak <= 0.8 * free


def _activations(recipe: Recipe, shape: ModelShape, setup: Setup, rows: int, wide: int) -> int:
    """What a batch keeps for its backward pass, all layers together."""
    layer = layer_bytes(recipe, shape, setup, rows, wide)
    item = _item(setup)
    hidden = rows * wide * shape.hidden
    last = hidden * (4 + 2 * item)  # the last norm, and the rows that the loss gathers
    if not recipe.train.gradient_checkpointing:
        return shape.layers * layer + last
    if setup.backend == "unsloth":
        return layer + last  # each layer's input lies in the host's memory meanwhile
    # Each layer keeps its input; one layer at a time is computed again.
    return shape.layers * hidden * (item if recipe.lora.enabled else 4) + layer + last


def _working(recipe: Recipe, shape: ModelShape, setup: Setup, tokens: int) -> int:
    """What one layer takes at its turn, and gives back."""
    item = _item(setup)
    biggest = max((out * into for out, into in shape.linears().values()), default=0)
    if setup.backend == "unsloth":
        return tokens * UNSLOTH_WORKING * shape.intermediate
    passing = tokens * (3 * shape.intermediate + 2 * shape.hidden) * item
    if not recipe.lora.enabled:
        return passing + biggest * 4
    if recipe.model.load_in_4bit:
        return passing + biggest * item
    if item < 4 and recipe.train.gradient_checkpointing:
        # PEFT's copies of down_proj's input in float32, beside the layer that is computed again.
        passing += tokens * 4 * shape.intermediate * (2 if recipe.lora.lora_dropout else 1)
    return passing


def _item(setup: Setup) -> int:
    return 4 if setup.dtype == "float32" else 2


def _padded(recipe: Recipe, setup: Setup, tokens: int) -> int:
    """Tokens of a row as the backend pads it."""
    if setup.backend == "unsloth":
        return recipe.train.max_length
    if setup.device == "cpu":
        return tokens
    return -(-tokens // 8) * 8


def _weights(recipe: Recipe, shape: ModelShape, setup: Setup) -> int:
    """The model as it is held. Full fine-tuning holds float32."""
    item = _item(setup) if recipe.lora.enabled else 4
    if not recipe.model.load_in_4bit:
        return shape.parameters * item
    packed = sum(out * into for out, into in shape.linears().values())
    # One constant for 64 weights: float32, or 8 bits and a float32 for 256 of those.
    constant = 1 + 4 / 256 if recipe.model.bnb_4bit_use_double_quant else 4
    return int(packed * (0.5 + constant / 64)) + (shape.parameters - packed) * item


def optimizer_bytes(recipe: Recipe, shape: ModelShape, setup: Setup) -> int:
    """State of the optimiser for what is trained."""
    trained = shape.trainable(recipe)
    optim = resolve_optim(recipe, setup.device)
    if optim in ("sgd", "lomo"):
        return 0
    if optim.startswith("adafactor"):
        linears = shape.linears()
        return 4 * (sum(out + into for out, into in linears.values()) + shape.vocabulary)
    moments = 1 if "lion" in optim or optim in ("adagrad", "rmsprop") else 2
    if "ademamix" in optim:
        moments = 3
    if "4bit" in optim:
        return int(moments * trained * (0.5 + 4 / 128))
    if "8bit" in optim or "bnb" in optim:
        return int(moments * trained * (1 + 4 / 256))
    return moments * trained * 4


def layer_bytes(recipe: Recipe, shape: ModelShape, setup: Setup, rows: int, wide: int) -> int:
    """Bytes that one decoder layer keeps for the backward pass of ``rows`` rows."""
    h, f = shape.hidden, shape.intermediate
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    item = _item(setup)
    tokens = rows * wide
    if setup.backend == "unsloth":
        per_token = _unsloth_layer(recipe, h, f, q, kv, item, wide)
        attention_mask = 0
    else:
        per_token = _transformers_layer(recipe, setup, h, f, q, kv, item)
        attention_mask = rows * wide * wide * item if setup.padding else 0
    per_token += 4 * shape.heads  # log-sum-exp of attention
    return int(tokens * per_token) + attention_mask


def _transformers_layer(
    recipe: Recipe, setup: Setup, h: int, f: int, q: int, kv: int, item: int
) -> int:
    """Bytes a token: Transformers' Llama layer with PEFT's LoRA under autocast."""
    lora = recipe.lora
    keys = q if setup.padding else kv  # a mask makes SDPA repeat keys and values for every head
    attention = item * (q + 2 * keys + q)  # q, k, v, output
    mlp = item * 3 * f  # gate, its activation, up
    roots = 2 * 4
    if not lora.enabled:
        # Each norm keeps its input and, for its weight's gradient, the normed one, in float32.
        # Linear layers keep their inputs; of a float32 one autocast makes a copy for each.
        inputs = (5 * h if item < 4 else 2 * h) + f
        return roots + 4 * 4 * h + attention + mlp + item * inputs
    norms = 2 * 4 * h  # each norm keeps its input in float32
    return roots + norms + attention + mlp + _lora_inputs(recipe, h, f, q, item)


def _lora_inputs(recipe: Recipe, h: int, f: int, q: int, item: int) -> int:
    """What PEFT's LoRA keeps of the inputs of its layers: a copy for each, or one for all."""
    targets = recipe.lora.target_modules
    dropout = recipe.lora.lora_dropout > 0
    inputs = {
        "attention": (("q_proj", "k_proj", "v_proj"), h),
        "output": (("o_proj",), q),
        "mlp": (("gate_proj", "up_proj"), h),
        "down": (("down_proj",), f),
    }
    size = 0
    for key, (names, wide) in inputs.items():
        count = sum(targets == "all-linear" or name in targets for name in names)
        if not count:
            continue
        size += count * recipe.lora.r * item  # what lora_B is given
        if dropout:
            size += count * wide * (item + 1)  # dropped out, with its mask
        elif recipe.model.load_in_4bit or item == 4:
            # The input itself; attention keeps o_proj's as its own output already.
            size += wide * item if key != "output" else 0
        else:
            size += count * wide * item  # to float32 and back: a copy for each
    return size


def _unsloth_layer(recipe: Recipe, h: int, f: int, q: int, kv: int, item: int, wide: int) -> int:
    """Bytes a token of Unsloth's fused layer: inputs of norms and of LoRA, q, k, v, gate, up.

    Its layers are compiled, so what they keep is the compiler's choice: see the constants.
    """
    norms = 2 * item * h
    inputs = 2 * item * h
    attention = item * (q + 2 * kv + q)
    if wide <= UNSLOTH_SHORT:
        attention += item * (2 * (q - kv) + q)  # and a copy of the output in another order
    mlp = 2 * item * f + UNSLOTH_COMPILED * f
    masks = (3 * h + q + f) if recipe.lora.lora_dropout else 0
    return norms + inputs + attention + mlp + masks


def _logits(recipe: Recipe, shape: ModelShape, setup: Setup, tokens: int, training: bool) -> int:
    """The loss on top of the last hidden states."""
    if setup.backend == "unsloth":
        return min(tokens * shape.vocabulary * 16, UNSLOTH_LOGIT_BYTES)
    per_logit = CHUNK_BYTES_PER_LOGIT if training else 14
    if takes_all_logits(recipe):
        return tokens * shape.vocabulary * per_logit
    return min(tokens, CHUNK_TOKENS) * shape.vocabulary * per_logit


def _evaluation(recipe: Recipe, shape: ModelShape, setup: Setup, wide: int) -> int:
    """One evaluation batch: nothing is kept but what a layer works on, then the logits."""
    rows = recipe.train.per_device_eval_batch_size
    item = _item(setup)
    tokens = rows * wide
    layer = tokens * (4 * shape.intermediate + 4 * shape.hidden) * item
    unpacked = max((o * i for o, i in shape.linears().values()), default=0) * item
    if not recipe.model.load_in_4bit:
        unpacked = 0
    last = tokens * shape.hidden * 3 * item
    return max(layer + unpacked, last + _logits(recipe, shape, setup, tokens, training=False))
