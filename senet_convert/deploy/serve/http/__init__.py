"""What every HTTP request passes: the listener, the connection, the middleware, its body."""
