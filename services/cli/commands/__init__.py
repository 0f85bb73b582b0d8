"""One module a command; each one's ``command`` is found by its file name (``services/cli/main.py``)."""
