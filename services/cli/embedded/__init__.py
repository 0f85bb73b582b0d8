"""The stack on one machine, from wheels: PostgreSQL, Redis, mail sink, API, workers, beat, under supervisord."""
