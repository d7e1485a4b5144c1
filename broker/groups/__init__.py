"""Consumer groups: who is alive, who reads which queue under which generation, and up to where."""
