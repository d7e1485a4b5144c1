"""What looks after a log while it is used: syncs at an interval, the search for damage, room on the disk."""
