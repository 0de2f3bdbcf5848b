"""Hosts: the only place with processes, sockets, clocks and shared memory."""
