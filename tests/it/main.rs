//! The whole program tried through its binary and real sockets.
