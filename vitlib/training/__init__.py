"""Training, evaluating, counting the cost."""
