"""What a person calls: train, start, resume, load, and a run that answers."""
