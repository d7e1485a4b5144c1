"""The shop's database: the one place of the system that speaks SQL for promotions."""
