//! IDs of layers, images and containers.

use crate::digest;
use crate::sys::dir::random_bytes;

/// True when `id` is one safe path component, as every ID must be: it names directories.
pub fn is_safe(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 255
        && id != "."
        && id != ".."
        && !id.bytes().any(|byte| byte == b'/' || byte == 0)
}

/// True when `id` looks like one that a store made: 64 lower-case hex digits.
pub fn is_hex(id: &str) -> bool {
    id.len() == 64
        && id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A new random ID: 32 bytes in hex.
///
/// An ID whose first twelve characters are all decimal digits is drawn again, as Go does: a short
/// form of it would look like a number.
pub fn random() -> String {
    loop {
        let mut bytes = [0; 32];
        random_bytes(&mut bytes);
        let mut id = String::with_capacity(64);
        digest::push_hex(&mut id, &bytes);
        if !id.bytes().take(12).all(|byte| byte.is_ascii_digit()) {
            return id;
        }
    }
}

/// The ID of the layer of container `id`: always the same, so that a retry after a crash finds what
/// the first attempt left.
pub fn of_container_layer(id: &str) -> String {
    let text = format!("strata container layer {id}");
    crate::digest::Digest::of(text.as_bytes()).hex().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_components_are_safe() {
        for bad in ["", ".", "..", "a/b", "/", "a\0b"] {
            assert!(!is_safe(bad), "{bad:?}");
        }
        assert!(is_safe("notahexid"));
        assert!(is_hex(&random()));
    }
}
