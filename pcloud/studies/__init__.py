"""Studies of a finished run, one file each: a function, its stored result and its table."""
