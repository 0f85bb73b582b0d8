"""The console: pages over the same use cases as the JSON API (docs/adr/0021-how-the-console-is-built.md)."""
