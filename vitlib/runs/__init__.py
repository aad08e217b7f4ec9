"""Asking for runs, computing the missing ones, keeping the results."""
