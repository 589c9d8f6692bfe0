"""Many pictures, one network: what to make of which file, then making it.

    request -> plan -> run -> totals

`plan` looks at files and never imports torch; `run` decodes, computes and encodes at the same time in bounded memory.
Nothing here knows a pixel: `irestore.images` reads and writes files, `irestore.runner` computes.
"""
