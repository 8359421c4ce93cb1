"""SFMANet and DANIE written out from the papers' equations: what the package's faster modules have to agree with.

Every module has the package's name, constructor arguments, parameters and buffers, so that the weights of one are those
of the other. The equations are numbered as in the papers; the readings and remedies are those of the package's
docstrings. The modules run in float32 and float64 and know nothing of half precision.
"""

from tests.reference.danie import ReferenceDANIE
from tests.reference.sfmanet import ReferenceSFMANet

__all__ = ["ReferenceDANIE", "ReferenceSFMANet"]
