"""Where secrets may lie: trees of files, the whole history of git, and what is packed within files.

Everything here yields `Blob`s to scan or `Skipped`s to report, within bounds, whatever the input.
"""
