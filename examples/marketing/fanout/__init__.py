"""From a promotion to one message a user: by buckets of users, or by the shards of a job."""
