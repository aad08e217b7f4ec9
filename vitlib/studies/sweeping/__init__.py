"""A store swept: which of its runs nobody asks for any more, and how they are removed."""
