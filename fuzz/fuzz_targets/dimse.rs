//! DIMSE command sets.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("dimse"), |bytes: &[u8]| {
    waystation_fuzz::wires::dimse(bytes);
});
