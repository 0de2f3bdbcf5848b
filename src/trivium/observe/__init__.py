"""What a person sees of a run: while it goes on, when it is over, and later from its directory."""
