"""Allreduce: every worker ends each clock with A; no server (Horovod, DDP)."""
