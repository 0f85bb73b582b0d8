"""The ``certfleet`` command."""
