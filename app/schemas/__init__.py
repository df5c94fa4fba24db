"""The bodies of requests and answers: one definition for the routes and for the client."""
