"""Data: where rows come from, and which of them a lane reads when."""
