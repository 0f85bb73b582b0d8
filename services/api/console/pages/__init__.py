"""One file a page, found by itself: a module here that has a ``Pages`` is in the console."""
