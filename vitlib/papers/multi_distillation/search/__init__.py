"""Experiment 1: the nine weights, how they are chosen, and what is predicted from the trials."""
