"""The journal under fire: disks that fail, lose power or lie, and lines that were changed."""
