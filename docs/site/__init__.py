"""The site: what is committed (executed notebooks, tables, figures, guides, docstrings) as static pages that work from disk."""
