"""Learning from another network, from its relations, and from one's own deeper layers."""
