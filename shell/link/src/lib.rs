//! Authenticated links between gateways and nodes.
