"""What writes files, each act with what it starts from."""
