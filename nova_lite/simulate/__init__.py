"""Many cells in one thread: real messages, schedulers, outboxes and databases in a time that is moved by hand."""
