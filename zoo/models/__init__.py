"""One family a file; found by folder."""
