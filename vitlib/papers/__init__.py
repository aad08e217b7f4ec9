"""One document a folder: its runs, how they are computed, its tables and figures, its entry and its published numbers."""
