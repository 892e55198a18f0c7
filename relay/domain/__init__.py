"""The rules: pure, synchronous, standard library only. No I/O, no clock, no logging."""
