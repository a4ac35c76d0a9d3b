"""What a subscriber does beneath its calls: waiting, taking, handing over, settling."""
