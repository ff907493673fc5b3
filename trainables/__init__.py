"""The worker side: everything a Ray worker may import. Runs without Ray too."""
