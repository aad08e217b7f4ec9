"""How fast machines are: shipped rates, and this machine's own, measured."""
