"""pynetdicom's own storescp application, with room for 100 associations instead of the 10 of its default."""

import sys

from pynetdicom import ae

original = ae.ApplicationEntity.__init__


def roomy(self, *arguments, **named):
    original(self, *arguments, **named)
    self._maximum_associations = 100


ae.ApplicationEntity.__init__ = roomy

from pynetdicom.apps.storescp import storescp  # noqa: E402

sys.exit(storescp.main(sys.argv[1:]))
