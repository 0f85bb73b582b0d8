"""Queue in, effects out."""
