"""Consumer groups as users see them: members, leases, where a group begins, dead letters."""
