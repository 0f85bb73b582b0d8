"""Rows: one class per concept."""
