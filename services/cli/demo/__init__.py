"""The demo: everything real, on one machine, in under a minute."""
