//! JSON as Go's encoder writes it: compact, with `<`, `>`, `&` and the two line separators escaped.

use std::io;

use serde::Serialize;

/// serde_json's compact form with Go's extra escapes.
struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut after = from.chars();
            if let Some(special) = after.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = after.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// The JSON text of `value`.
///
/// # Errors
/// When the value can't be JSON: a map with keys that are no strings.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::with_capacity(512);
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut bytes,
        GoFormatter,
    ))?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_go_escapes_is_escaped() {
        let text = super::to_string("a<b>&\u{2028}é\"").unwrap();
        assert_eq!(text, r#""a\u003cb\u003e\u0026\u2028é\"""#);
    }
}
