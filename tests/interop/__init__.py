"""Real peers: Microsoft's clients and server, recorded conversations, and bad input over real sockets."""
