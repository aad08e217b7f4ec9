"""Pretraining without labels: DINO and MAE."""
