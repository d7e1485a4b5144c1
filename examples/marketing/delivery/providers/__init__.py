"""Providers: what takes notices to users, behind one port."""
