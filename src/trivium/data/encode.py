"""From frames to rows: what a source's columns mean, and how they become what a program sees.

``fit_encoding`` finds it out, an ``Encoding`` does it frame by frame and is saved with the model, ``settle_labels``
makes classes or numbers of all labels at the end.
"""

from trivium.data.encode_fit import fit_encoding
from trivium.data.encode_labels import settle_labels
from trivium.data.encoding import Encoding, Feature, Piece

__all__ = ["Encoding", "Feature", "Piece", "fit_encoding", "settle_labels"]
