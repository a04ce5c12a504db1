"""Models that count: one method per file."""
