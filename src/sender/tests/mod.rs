//! Facts about the sender.
