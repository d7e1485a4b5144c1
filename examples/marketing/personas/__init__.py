"""Who is meant: conditions on users as data, and the audience they choose."""
