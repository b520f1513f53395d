"""How much memory training by the fused layers takes, by arithmetic (see ``engine.train.fused``).

Every number is bytes. Their passes are recorded as CUDA graphs, whose memory is theirs for good:
what a layer works on adds to what the loss and the evaluation take, instead of taking turns.
"""

from engine.preflight.shape import ModelShape
from engine.recipe import Recipe
from engine.train.fused.sizes import LINE_MULTIPLE, LOGIT_BYTES, padded_rank

__all__ = ["activations", "evaluation", "held_beside", "layer_bytes", "logits", "working"]

ITEM = 2
GROUPS = (
    ("q_proj", "k_proj", "v_proj"),
    ("o_proj",),
    ("gate_proj", "up_proj"),
    ("down_proj",),
)
"""Linear layers that share their input: one matrix each."""


def line(rows: int, tokens: int) -> int:
    """Tokens of a batch."""
    return -(-rows * tokens // LINE_MULTIPLE) * LINE_MULTIPLE


def _columns(recipe: Recipe) -> list[int]:
    """Columns that each group's adapters take in its matrix."""
    targets = recipe.lora.target_modules
    rank = padded_rank(recipe.lora.r)
    return [
        rank * sum(targets == "all-linear" or name in targets for name in group) for group in GROUPS
    ]


def layer_bytes(recipe: Recipe, shape: ModelShape, tokens: int) -> int:
    """What one decoder layer keeps for its way back."""
    h, f = shape.hidden, shape.intermediate
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    kept = h + (q + 2 * kv) + q + h + 2 * f + sum(_columns(recipe))
    return tokens * (kept * ITEM + 4 * shape.heads)


def activations(recipe: Recipe, shape: ModelShape, tokens: int) -> int:
    """Of all layers, and of what lies between the last one and the loss."""
    layer, hidden = layer_bytes(recipe, shape, tokens), tokens * shape.hidden * ITEM
    between = 6 * hidden
    if recipe.train.gradient_checkpointing:
        return shape.layers * hidden + layer + between
    return shape.layers * layer + between


def working(shape: ModelShape, tokens: int) -> int:
    """One layer's way back: gradients that pass through it."""
    return tokens * (2 * shape.intermediate + 4 * shape.hidden) * ITEM


def logits(shape: ModelShape, tokens: int) -> int:
    return min(tokens * shape.vocabulary * ITEM, LOGIT_BYTES)


def evaluation(shape: ModelShape, tokens: int) -> int:
    """A batch of which nothing is kept, and its logits."""
    layer = tokens * (3 * shape.intermediate + 4 * shape.hidden) * ITEM
    return max(layer, tokens * shape.hidden * ITEM * 3 + logits(shape, tokens))


def held_beside(recipe: Recipe, shape: ModelShape, unpacked: bool) -> int:
    """Beside the weights as they are loaded: adapters in 16 bits, 4-bit weights unpacked."""
    extra, scratch = 0, 0
    first_layer = min((n for n in shape.linears()), default="").rpartition(".")[0].split(".")
    prefix = ".".join(first_layer[:3])
    for group, columns in zip(GROUPS, _columns(recipe), strict=True):
        found = [
            size
            for name, size in shape.linears().items()
            if name.startswith(prefix + ".") and name.rpartition(".")[2] in group
        ]
        if not found:
            continue
        out, into = sum(size[0] for size in found), found[0][1]
        extra += columns * (out + into) * ITEM
        scratch += out * (into + columns) * ITEM
    if not recipe.model.load_in_4bit:
        return shape.layers * extra
    # Unpacked one matrix of each size at a time, or all of them.
    return shape.layers * extra + scratch * (shape.layers if unpacked else 1)
