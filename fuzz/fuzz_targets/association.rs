//! What a modality may say: PDUs, the association, DIMSE messages.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("association"), |bytes: &[u8]| {
    waystation_fuzz::wires::association(bytes);
});
