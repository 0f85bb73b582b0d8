"""The certfleet command."""
