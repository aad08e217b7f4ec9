"""One document a module: its runs, tables and figures; its entry lies beside it as TOML."""
