"""Pictures in, labels out: the requests of browsers and small programs, and the page."""
