"""Llama-like decoder layers with LoRA, computed in few passes over memory: the fast way to train.

The model stays Transformers' and PEFT's: same modules, same weights, same adapters on disk. Only
what is computed between the embedding and the loss is ours while no cache is kept:

- rows lie one behind the other without padding; attention keeps them apart (``attention``);
- an adapter is some more columns of the matrix it belongs to, so that LoRA rides along in the
  matrix product forwards and its gradient falls out of the one backwards (``matrix``);
- between two matrix products lies one kernel (``kernels``; ``reference`` is the same in plain
  torch, which runs anywhere and says what the kernels mean);
- no logits are kept: the loss's gradient is made while the loss is (``loss``).
"""
