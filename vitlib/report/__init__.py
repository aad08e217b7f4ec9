"""Tables, figures and widgets from tidy frames."""
