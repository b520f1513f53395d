"""How good answers are: metrics of predictions beside references, intervals, tests. No torch."""
