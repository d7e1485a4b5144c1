"""A web application that runs its jobs and listeners in its own process."""
