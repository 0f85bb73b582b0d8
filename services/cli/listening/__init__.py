"""``certfleet listen``: events on a terminal, pushed to it by webhook or pulled from the log."""
