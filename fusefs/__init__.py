"""The mounted view: repositories as directories and files, read-only (DESIGN section 9).

`names` decides what a path can mean, `tree` is the view without FUSE, `inodes` numbers it, `reading` opens
and reads files, and `operations` only translates between these and pyfuse3. `link` keeps the connections
to the daemon, `mounting` knows mount points, and `main` is the process.
"""
