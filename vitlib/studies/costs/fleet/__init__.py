"""What a study's runs take on many GPUs: what they read, how fast it must come, and what holds them up."""
