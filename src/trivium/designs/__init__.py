"""The designs: rooms of one shape; none imports another. Who takes part is chosen in ``trivium.running.staffing``."""
