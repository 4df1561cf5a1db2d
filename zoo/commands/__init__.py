"""The commands of `zoo`, one file a topic."""
