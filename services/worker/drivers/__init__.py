"""One file a load balancer."""
