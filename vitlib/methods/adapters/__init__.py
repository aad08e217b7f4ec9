"""Few trainable weights beside or copied from many: LoRA and its siblings, weight copy."""
