//! Sources and pools against each other, without a box.
