//! Layer 5: this box plays the others: a modality that sends, studies that never were a patient's, a WAN that can be cut, a
//! line to be filled, and the demo that puts them together.
pub mod certificates;
pub mod demo;
pub mod line;
pub mod modality;
pub mod synthetic;
pub mod wan;
