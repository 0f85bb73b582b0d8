"""The three processes of Certfleet: HTTP in, queue in, command line in. They never import each other."""
