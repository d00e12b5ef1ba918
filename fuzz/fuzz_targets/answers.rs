//! What an archive may answer.
#![no_main]
#![forbid(unsafe_code)]
libfuzzer_sys::fuzz_target!(init: waystation_fuzz::plant("answers"), |bytes: &[u8]| {
    waystation_fuzz::wires::answers(bytes);
});
