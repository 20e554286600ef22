//! The media server as a program: shard threads, signalling server, beats.
