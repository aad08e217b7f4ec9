"""Verdicts beyond one study: one scoreboard of all documents, and seeds where a verdict is open."""
