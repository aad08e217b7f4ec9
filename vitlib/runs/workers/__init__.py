"""Local worker processes: the pool, the process, and the lines they report."""
