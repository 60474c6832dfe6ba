"""What the synthetic feeds of the bundled systems share: landing days, planted faults, files, and a manifest of both.

A system's `sample` module describes its feeds (`SampleFeed`: how a record looks, how it is corrected, how it is spoilt)
and hands them to `plant`. Comics, whose marketplaces differ in everything, has a generator of its own with the same
manifest. Nothing here is real data; the same arguments give the same bytes.
"""

from assets.samples.manifest import FileEntry, Manifest, landing_files
from assets.samples.planter import Record, SampleFeed, moment_of, plant

__all__ = ["FileEntry", "Manifest", "Record", "SampleFeed", "landing_files", "moment_of", "plant"]
