"""Many pictures, networks one after the other: what to make of which file, then making it.

    inputs (what is there) -> plan (chain, naming, checks) -> run (files, pool of restorers) -> report

`plan` reads the headers of files and never imports torch. `run` has workers that each read a picture with
`irestore.images`, have `restorer` compute it with its networks, and write it; in bounded memory.
"""
