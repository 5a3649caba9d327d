"""Training: optimiser, step, loop, checkpoints, logs, and what sets them up."""
