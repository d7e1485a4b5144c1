"""The migrations, in order; "pre" is safe beside old code, "post" needs new."""
