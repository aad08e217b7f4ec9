"""What a call gives back: the compressed model with its numbers, or attention distances."""
