"""What stands beside the figures: the floor of the hardware, and the peer."""
