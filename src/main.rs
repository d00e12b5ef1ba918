//! Waystation command line.
fn main() {}
