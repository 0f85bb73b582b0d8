"""Pure rules over values: no library, no clock, no input or output."""
