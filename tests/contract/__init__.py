"""What a queue promises, whatever its engine: the same tests over all of them."""
