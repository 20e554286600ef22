"""What the end-to-end tests are made of: a fleet of servers, real clients, and measurements."""
