"""The main job as a demonstration: a promotion reaches every row of a table exactly once."""
