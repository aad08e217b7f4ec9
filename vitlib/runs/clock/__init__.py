"""What the time has to do with runs: how far they are, and which may still begin."""
