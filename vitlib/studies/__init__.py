"""A document loaded, executed, drawn and judged; what travels; notebooks headless."""
