"""Sizes that the fused layers and the estimate of their memory agree on; no torch."""

__all__ = ["LINE_MULTIPLE", "LOGIT_BYTES", "padded_rank"]

LINE_MULTIPLE = 128
"""A batch's line is filled up to this: few shapes to record, whole tiles for matrix products."""

LOGIT_BYTES = 512 << 20
"""Of logits at a time: 2,048 tokens of a vocabulary of 128,256 in 16 bits."""

_LEAST_RANK = 16


def padded_rank(rank: int) -> int:
    """Columns of an adapter: a power of two, at least the 16 that tensor cores multiply by."""
    return max(_LEAST_RANK, 1 << (rank - 1).bit_length())
