"""The learner in PyTorch: for training, and for GPUs."""
