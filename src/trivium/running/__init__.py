"""One run, from what is to be trained to what came of it: jobs, staffing, the drive, the run directory, sessions."""
