"""The designs: rooms of one shape; none imports another. ``choose`` is in ``trivium.session``."""
