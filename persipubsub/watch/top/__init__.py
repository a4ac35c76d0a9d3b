"""The live table in a terminal; needs the extra ``top`` (Textual)."""
