"""All families of the gallery: tiny random vision-language models as they come from the hub."""

from __future__ import annotations

import gallery_families_native
import gallery_families_other
import gallery_families_tiled

FAMILIES = (
    *gallery_families_native.FAMILIES,
    *gallery_families_tiled.FAMILIES,
    *gallery_families_other.FAMILIES,
)
