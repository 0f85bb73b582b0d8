"""The stack on one machine, from wheels: servers, load balancers, API, workers, beat, under supervisord."""
