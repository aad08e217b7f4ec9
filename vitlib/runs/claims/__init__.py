"""Claims of runs: who computes which, among processes and hosts that share a store."""
