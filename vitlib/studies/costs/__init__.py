"""What the missing runs of a study cost: FLOPs, memory, storage, and time on a device whose rates are known."""
