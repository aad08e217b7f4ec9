"""An RO-Crate of artefacts: which notebook, run with what, made which files. Start from `command`."""
