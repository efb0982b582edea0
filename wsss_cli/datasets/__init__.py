"""Data sets on disk become records (voc, folder, toy); records become training samples."""
