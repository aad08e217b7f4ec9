"""Reading a store: runs as they lie there, and what happens where one turns out to be damaged."""
