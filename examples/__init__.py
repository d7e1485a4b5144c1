"""Applications that use Shardcast as their users do."""
