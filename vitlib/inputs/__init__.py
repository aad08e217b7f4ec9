"""What runs are computed on: data and models."""
