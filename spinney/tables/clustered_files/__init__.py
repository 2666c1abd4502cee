"""Files sorted by group, so that the rows of a group are found without reading the rest: written, merged, rewritten."""
