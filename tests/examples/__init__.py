"""The examples: each is run as its reader would, and each row of its page's tables is checked."""
