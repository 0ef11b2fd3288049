//! Names of images.

use strata::oci::reference::Reference;

use super::plant;

/// The text is a name, as it comes from a registry and as it is made here.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for parsed in [text.parse::<Reference>(), Reference::parse_local(text)] {
        let Ok(reference) = parsed else { continue };
        let printed = reference.to_string();
        let again: Reference = printed
            .parse()
            .unwrap_or_else(|error| panic!("{printed:?} is not read again: {error}"));
        assert_eq!(again, reference, "{text:?} changes when it is printed");
        assert!(!reference.host().is_empty() && !reference.repository().is_empty());
        assert!(reference.tag().is_some() || reference.digest().is_some());
        assert!(!reference.storage_name().is_empty());
        assert!(!reference.target().is_empty());
        assert!(printed.starts_with(&reference.without_target()));
        plant::bug(reference.digest().is_some() && reference.tag().is_some());
    }
}
