"""Where pretrained models come from: shipped with vitlib, released, from a file, or trained here."""
