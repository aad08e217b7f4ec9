"""Notebooks without a person before them: the kernel, the copy that is left, and several notebooks side by side."""
