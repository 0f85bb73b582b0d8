"""The facts that happen: catalogue, log, payloads."""
