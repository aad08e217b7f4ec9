"""The combined model: its total loss, the successive steps of experiment 2, how networks are trained."""
