"""Float formats as data, bit by bit: decoding, encoding with several kinds of rounding, pictures of the number line."""
