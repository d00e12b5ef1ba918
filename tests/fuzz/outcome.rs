//! What a target says of an outcome, as a number: the same for the engine here and for libFuzzer (`fuzz/`).

/// FNV-1a: names of inputs and signatures, stable from run to run.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// A signature of an outcome's debug text, numbers by their magnitude only.
pub fn signature(outcome: &impl std::fmt::Debug) -> u64 {
    let text = format!("{outcome:?}");
    let mut shape = Vec::with_capacity(text.len());
    let mut digits = 0;
    for byte in text.bytes() {
        if byte.is_ascii_digit() {
            digits += 1;
            continue;
        }
        if digits > 0 {
            shape.extend([b'#', digits]);
            digits = 0;
        }
        shape.push(byte);
    }
    shape.extend([b'#', digits]);
    fingerprint(&shape)
}
