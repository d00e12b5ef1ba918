//! Layer 5: this box plays the others: a modality that sends, and studies that never were a patient's.
pub mod modality;
pub mod synthetic;
