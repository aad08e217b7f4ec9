"""Which weights matter (saliency.py) and which are kept (masks.py)."""
