"""The compiled loops of filters: single-threaded, ``nogil``, compiled at the first use and cached on disk."""
