"""What people bring: models of any family, looked at before they are computed with."""
