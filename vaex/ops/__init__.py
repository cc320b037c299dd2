"""How things are computed fast on one platform: convolutions as matrix products on CPU, random bits without a loop."""
