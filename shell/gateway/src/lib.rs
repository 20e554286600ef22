//! The gateway as a program: HTTP, WebSocket proxy, beats.
