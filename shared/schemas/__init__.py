"""marshmallow: the shape of requests and answers, never the rules."""
