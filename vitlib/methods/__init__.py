"""What the documents add, as functions of tensors and models."""
