"""What a call is given: a model, photos, and options; each becomes what runs are described by."""
