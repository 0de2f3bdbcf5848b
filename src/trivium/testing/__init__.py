"""For those who build on Trivium: faults as data, conformance kits, an explorer of interleavings."""
